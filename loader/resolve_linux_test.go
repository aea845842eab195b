package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// withRoot is a sandbox whose paths are resolved in the host's own file system.
func withRoot(t *testing.T) (b *testBox, d, self string) {
	b, d, self = whoWorld(t)
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.w.l.Start(b.Info.ID, root); err != nil {
		t.Fatal(err)
	}
	return b, d, self
}

func TestLinksAreFollowedToWhatWasRefused(t *testing.T) {
	b, d, _ := withRoot(t)
	for link, to := range map[string]string{"own/file": d + "/closed.txt", "own/folder": d + "/ro/d", "own/loop": "loop",
		"own/secret": "../closed/secret", "own/secrets": d + "/closed", "own/round": "/proc/self/root" + d + "/closed/secret"} {
		if err := os.Symlink(to, d+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(d+"/closed.txt", &st); err != nil {
		t.Fatal(err)
	}
	inode := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for _, tt := range []struct {
		script, path, devIno string
		op                   event.Operation
	}{
		{"cat own/file", d + "/closed.txt", inode, event.FileRead},
		{"cat own/folder/../../closed.txt", d + "/closed.txt", inode, event.FileRead},
		{"cat own/secret", d + "/closed/secret", "", event.FileRead},
		{"cat own/secrets/secret", d + "/closed/secret", "", event.FileRead},
		{"cat own/folder/../../own/secret", d + "/closed/secret", "", event.FileRead},
		{"cat own/round", d + "/closed/secret", "", event.FileRead},
		{"cat /proc/self/root" + d + "/closed/secret", d + "/closed/secret", "", event.FileRead},
		{"cat /proc/self/cwd/own/secret", d + "/closed/secret", "", event.FileRead},
		{"echo > closed.txt", d + "/closed.txt", inode, event.FileWrite},
		{"echo > own/folder/new", d + "/ro/d/new", "", event.FileCreate},
		{"mkdir own/folder/new", d + "/ro/d/new", "", event.FileCreate},
		{"rm -f own/folder/../f", d + "/ro/f", "", event.FileDelete},
	} {
		t.Run(tt.script, func(t *testing.T) {
			before := len(b.records())
			cmd := nobody(b.command("/bin/sh", "-c", tt.script))
			cmd.Dir, cmd.Stderr = d, nil
			if err := cmd.Run(); err == nil {
				t.Fatal("nothing was refused")
			}
			for _, r := range b.records()[before:] {
				o := r.Event.Object
				if string(o.Path) == tt.path && r.Event.Operation == tt.op && (tt.devIno == "" || o.DevIno == tt.devIno) && o.PathSource == "user" {
					return
				}
			}
			t.Errorf("no record of %v upon %s %s in %+v", tt.op, tt.path, tt.devIno, b.records()[before:])
		})
	}
}

func TestASandboxStartsWhenItsCanaryWasSeen(t *testing.T) {
	d := makeCorpusDir(t)
	w := newWorld(t, Options{})
	rules := everything
	rules.Canary = d + "/closed/canary"
	b := w.addOnly(rules)
	program := copySelf(t, d, "program")
	b.run(t, program, "look", d+"/closed/other")
	if err := w.l.Start(b.Info.ID, nil); !errors.Is(err, ErrNoCanary) {
		t.Fatalf("start without: %v", err)
	}
	b.run(t, program, "again", rules.Canary)
	if err := w.l.Start(b.Info.ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, owed, err := w.l.told.owed(); err != nil || owed {
		t.Errorf("repeats of before the start are still owed: %v, %v", owed, err)
	}
	if list := b.records(); len(list) > 0 {
		t.Errorf("handed on before the start: %+v", list)
	}
	if c, err := w.l.Counters(); err != nil || c.Seen[event.FileRead] != 0 || c.Lost[event.FileRead] != 0 {
		t.Errorf("%d counted and %d lost before the start, %v", c.Seen[event.FileRead], c.Lost[event.FileRead], err)
	}
	b.run(t, program, "look", rules.Canary)
	if list := b.under(rules.Canary); len(list) != 1 || list[0].Event.Count != 1 {
		t.Errorf("after the start: %+v", list)
	}
}

func TestACanaryThatFoundNoRoomIsCounted(t *testing.T) {
	d := makeCorpusDir(t)
	w := newWorld(t, Options{RingBytes: 4096})
	rules := everything
	rules.Canary = d + "/closed/" + strings.Repeat("./", 1950) + "canary" // no room for this and the rest of a record
	b := w.addOnly(rules)
	b.run(t, copySelf(t, d, "program"), "make", rules.Canary)
	if err := w.l.Start(b.Info.ID, nil); err != nil {
		t.Fatal(err)
	}
}

// A mount that goes while what is below it is looked at has taken it along, and
// its path begins there.
func TestAPathIsWholeWhileMountsAreTakenDown(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	dir := t.TempDir()
	want := dir + "/m/sub"
	if err := os.MkdirAll(want, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	end, ended := time.Now().Add(time.Second), make(chan error, 1)
	go func() {
		for time.Now().Before(end) {
			err := unix.Mount("tmpfs", dir+"/m", "tmpfs", 0, "size=64k")
			if err == nil {
				err = os.Mkdir(want, 0o755)
			}
			if err == nil {
				err = unix.Unmount(dir+"/m", unix.MNT_DETACH)
			}
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	wrong := map[string]int{}
	for time.Now().Before(end) {
		if real, _, err := openPath(root, want, true, false); err == nil && real != want {
			wrong[real]++
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(wrong) > 0 {
		t.Errorf("paths: %v, want %s", wrong, want)
	}
}
