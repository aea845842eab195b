package loader

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func init() { payloads["filerace"] = fileRace }

// raced is what came of a race: how often each call succeeded, was refused by name,
// and failed otherwise, because the other side was faster.
type raced struct{ Done, Refused, Other int }

func (r *raced) note(err error) {
	switch err {
	case nil:
		r.Done++
	case unix.EACCES:
		r.Refused++
	default:
		r.Other++
	}
}

// fileRace moves directories and links about under the feet of calls that aim at
// protected names, until each side has had its turns, and for two seconds at least.
func fileRace([]string) int {
	make := func(path string) error {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	swap := func(target string) error {
		unix.Unlink("l.new")
		if err := unix.Symlink(target, "l.new"); err != nil {
			return err
		}
		return unix.Rename("l.new", "l")
	}
	results := map[string]*raced{}
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	run := func(name string, calls ...func() error) {
		r := &raced{}
		results[name] = r
		wg.Go(func() {
			for i := 0; i < 300 || time.Now().Before(end); i++ {
				for _, call := range calls {
					r.note(call())
				}
			}
		})
	}
	run("swap", func() error { return swap("ok") }, func() error { return swap("g/.git") })
	run("through the link", func() error { return make("l/config") }, func() error { return unix.Mkdir("l/hooks", 0o700) },
		func() error { unix.Unlink("ok/config"); return unix.Rmdir("ok/hooks") })
	run("move", func() error { return unix.Rename("x", "y") }, func() error { return unix.Rename("y", "deep/er/x") },
		func() error { return unix.Rename("deep/er/x", "x") })
	run("in what moves", func() error { return make("x/.git/config") }, func() error { return make("y/.git/config") },
		func() error { return make("deep/er/x/.git/config") })
	run("into place", func() error { return unix.Rename("prepared", "empty/.git") }, func() error { return unix.Rename("prepared", "g/.git/hooks") },
		func() error { return unix.Link("prepared/pre-commit", "g/.git/config") })
	wg.Wait()
	if json.NewEncoder(os.Stdout).Encode(results) != nil {
		return 1
	}
	return 0
}

func TestNoRaceOfLinksAndRenamesGetsPastARule(t *testing.T) {
	b := newFileBox(t, "")
	b.host("ok/", "g/.git/HEAD", "x/.git/HEAD", "deep/er/", "prepared/pre-commit", "empty/")
	cmd := b.command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=filerace")
	cmd.Dir = b.dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var results map[string]raced
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatal(err)
	}
	refused := uint64(0)
	for name, r := range results {
		t.Logf("%s: %+v", name, r)
		refused += uint64(r.Refused)
		aims := name != "swap" && name != "move"
		if aims && r.Refused == 0 || !aims && r.Refused > 0 || name != "in what moves" && name != "into place" && r.Done == 0 {
			t.Errorf("no race: %s: %+v", name, r)
		}
		if (name == "in what moves" || name == "into place") && r.Done > 0 {
			t.Errorf("got past: %s: %+v", name, r)
		}
	}
	for _, d := range []string{"g", "x", "y", "deep/er/x", "empty"} {
		for _, name := range []string{".git/config", ".git/hooks"} {
			if _, err := os.Lstat(filepath.Join(b.dir, d, name)); err == nil {
				t.Errorf("%s/%s was made", d, name)
			}
		}
	}
	told := uint64(0)
	for _, r := range b.records() {
		if r.Event.Layer == event.LayerLSM {
			told += r.Event.Count
		} else {
			t.Errorf("recorded by another layer, too: %+v", r)
		}
	}
	if told != refused {
		t.Errorf("%d refusals, events stand for %d", refused, told)
	}
}
