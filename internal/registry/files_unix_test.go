//go:build linux || darwin

package registry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func register(t *testing.T, dirs []string, id string) *Registration {
	t.Helper()
	r, err := Register(dirs, Entry{ID: id, PID: os.Getpid(), Start: time.Now(), Host: Here()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestAnEntryIsThereForAsLongAsItIsHeld(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b")
	r := register(t, []string{dir}, "one")
	register(t, []string{dir}, "two")
	if got := List([]string{dir}, Here()); len(got) != 2 || got[0].ID != "one" || !got[0].Live() {
		t.Fatalf("%+v", got)
	}
	if got := List([]string{dir}, Host{BootID: "another"}); len(got) != 0 {
		t.Errorf("another host's: %+v", got)
	}
	e := List([]string{dir}, Here())[0]
	r.Close()
	if got := List([]string{dir}, Here()); len(got) != 1 || got[0].ID != "two" || e.Live() {
		t.Errorf("%+v", got)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestStaleEntriesAreSweptAndLiveOnesAreNot(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stale := []string{"dead.json", "dead.sock", "dead.ask", "old.ask", "damaged.json", "old.sock", ".old"}
	kept := []string{"young.sock", ".young", "README", "live.json", "live.sock"}
	for _, name := range append(stale, "young.sock", ".young", "README") {
		text := `{"id":"dead","pid":77}`
		if name == "damaged.json" {
			text = "{"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	for _, name := range []string{"old.sock", "old.ask", ".old"} {
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	register(t, []string{dir}, "live")
	for _, name := range stale {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range kept {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestADirectoryThatIsNotTrustedIsNotUsed(t *testing.T) {
	base := t.TempDir()
	open := filepath.Join(base, "open")
	link := filepath.Join(base, "link")
	file := filepath.Join(base, "file")
	good := filepath.Join(base, "good")
	err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Mkdir(filepath.Join(base, "to"), 0o700),
		os.Symlink("to", link), os.WriteFile(file, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{open, link, file, "/proc/none"} {
		if r, err := Register([]string{dir}, Entry{ID: "one", PID: 7}); err == nil {
			r.Close()
			t.Errorf("%s is used", dir)
		}
	}
	r := register(t, []string{open, link, file, good}, "one")
	if r.entry.dir != good {
		t.Errorf("used %s", r.entry.dir)
	}
	if _, err := Register(nil, Entry{ID: "one", PID: 7}); err == nil {
		t.Error("registered nowhere")
	}
	if _, err := Register([]string{good}, Entry{ID: "../one", PID: 7}); err == nil {
		t.Error("registered under a path")
	}
}

func TestClientsAreHeardOnEveryPath(t *testing.T) {
	for name, dir := range map[string]string{"short": t.TempDir(), "long": filepath.Join(t.TempDir(), strings.Repeat("long/", 40))} {
		t.Run(name, func(t *testing.T) {
			r := register(t, []string{filepath.Join(dir, "run")}, "one")
			conn, err := List([]string{filepath.Join(dir, "run")}, Here())[0].Dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			theirs, err := r.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			if _, err := conn.WriteString("hello"); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 10)
			if n, err := theirs.Read(buf); string(buf[:n]) != "hello" {
				t.Errorf("%q, %v", buf[:n], err)
			}
			ended := make(chan error)
			go func() { _, err := r.Accept(); ended <- err }()
			r.Stop()
			if err := <-ended; err == nil || errors.Is(err, unix.EBADF) {
				t.Errorf("Accept: %v", err)
			}
		})
	}
}

func TestAnEntryIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	register(t, []string{dir}, "one")
	if r, err := Register([]string{dir}, Entry{ID: "one", PID: 7}); err == nil {
		r.Close()
		t.Error("made again")
	}
	if got := List([]string{dir}, Here()); len(got) != 1 || !got[0].Live() {
		t.Errorf("the first is gone: %+v", got)
	}
}

func TestAnEntryIsListedFromItsStart(t *testing.T) {
	dirs := []string{filepath.Join(t.TempDir(), "d")}
	e := Entry{ID: "one", PID: os.Getpid(), Host: Here()}.Leaving(Leaves{Files: []string{"/tmp/x"}})
	r, err := Register(dirs, e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := List(dirs, Here()); len(got) != 0 {
		t.Errorf("listed before: %+v", got)
	}
	e.Start, e.Command = time.Now(), []string{strings.Repeat("long", 1000)}
	if err := r.Update(e); err != nil {
		t.Fatal(err)
	}
	e.Command = []string{"short"}
	if err := r.Update(e); err != nil {
		t.Fatal(err)
	}
	got := List(dirs, Here())
	if len(got) != 1 || got[0].Command[0] != "short" || got[0].Leaves().Files[0] != "/tmp/x" || !got[0].Live() {
		t.Errorf("%+v", got)
	}
}

func TestWhatAKilledSupervisorLeftIsKnownUntilItIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	e := Entry{ID: "one", PID: 77, Start: time.Now(), Host: Here()}.Leaving(Leaves{Processes: []Proc{{78, 5}}})
	data, err := e.encode()
	if err = errors.Join(err, os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "one.json"), data, 0o600)); err != nil {
		t.Fatal(err)
	}
	register(t, []string{dir}, "other")
	if got := List([]string{dir}, Here()); len(got) != 1 {
		t.Errorf("listed %+v", got)
	}
	var cleared []Proc
	clear := func(err error) func(Entry) error {
		return func(e Entry) error { cleared = append(cleared, e.Leaves().Processes...); return err }
	}
	if got := Sweep([]string{dir}, clear(errors.New("still there"))); len(got) != 0 {
		t.Errorf("removed %q", got)
	}
	if got := Sweep([]string{dir}, clear(nil)); len(got) != 1 || filepath.Base(got[0]) != "one.json" {
		t.Errorf("removed %q", got)
	}
	if len(cleared) != 2 || cleared[0] != (Proc{78, 5}) {
		t.Errorf("cleared %v", cleared)
	}
}
