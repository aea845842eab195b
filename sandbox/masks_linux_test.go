package sandbox

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

func (m rawMount) String() string {
	return fmt.Sprintf("%s %s %s %#x %s", unix.BytePtrToString(m.source), unix.BytePtrToString(m.target),
		unix.BytePtrToString(m.fstype), m.flags, unix.BytePtrToString(m.data))
}

func TestAMaskIsMadeOfTheseMounts(t *testing.T) {
	const noexec = unix.MS_NOEXEC
	for name, test := range map[string]struct {
		mount plan.Mount
		dir   bool
		keep  uintptr
		want  []rawMount
	}{
		"protected": {plan.Mount{Path: "/w/x", Access: plan.ReadOnly}, false, noexec, []rawMount{
			newMount("/w/x", "/w/x", "", "", unix.MS_BIND|unix.MS_REC),
			newMount("", "/w/x", "", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|noexec)}},
		"pinned": {plan.Mount{Path: "/w/.git", Access: plan.ReadWrite, Pin: true}, true, 0, []rawMount{
			newMount("/w/.git", "/w/.git", "", "", unix.MS_BIND|unix.MS_REC)}},
		"hidden file": {plan.Mount{Path: "/h/.netrc", Dir: true}, false, 0, []rawMount{ // it was a directory once
			newMount("/dev/null", "/h/.netrc", "", "", unix.MS_BIND|unix.MS_REC),
			newMount("", "/h/.netrc", "", "", unix.MS_REMOUNT|unix.MS_BIND|hideFlags)}},
		"hidden directory": {plan.Mount{Path: "/h/.ssh", Open: true}, true, 0, []rawMount{
			newMount("tmpfs", "/h/.ssh", "tmpfs", "mode=0000", hideFlags)}},
		"private": {plan.Mount{Path: "/h/run", Access: plan.Private}, true, 0, []rawMount{
			newMount("tmpfs", "/h/run", "tmpfs", "mode=0700", unix.MS_NOSUID|unix.MS_NODEV)}},
	} {
		got := coverMounts(test.mount, test.dir, test.keep)
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s:\n%v, want\n%v", name, got, test.want)
		}
	}
}

func TestAWatchSeesWhatHappensToMasksAndToWhatLeadsToThem(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "mask")
	write := func(name string) func() error {
		return func() error { return os.WriteFile(name, nil, 0o600) }
	}
	w := watchMasks([]plan.Mount{{Path: file}})
	if w.blind != nil {
		t.Fatal(w.blind)
	}
	woken := make(chan bool)
	go func() {
		for w.wait() {
			woken <- true
		}
		close(woken)
	}()
	for _, step := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"another name", write(filepath.Join(dir, "other")), false},
		{"the mask's name is made", write(file), true},
		{"what is in it changes", func() error { return os.WriteFile(file, []byte("x"), 0o600) }, false},
		{"it is replaced", func() error { return os.Rename(filepath.Join(dir, "other"), file) }, true},
		{"it is removed", func() error { return os.Remove(file) }, true},
		{"a directory is renamed", func() error { return os.Rename(filepath.Join(root, "a"), filepath.Join(root, "z")) }, true},
		{"a directory is made", func() error { return os.MkdirAll(dir, 0o755) }, true},
		{"the mask's name is made there", write(file), true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		wait := 10 * time.Second
		if !step.want {
			wait = 50 * time.Millisecond
		}
		select {
		case <-woken:
			if !step.want {
				t.Errorf("%s: it woke up", step.what)
			}
		case <-time.After(wait):
			if step.want {
				t.Errorf("%s: not seen", step.what)
			}
		}
		for again := true; again; { // more than one event
			select {
			case <-woken:
			case <-time.After(20 * time.Millisecond):
				again = false
			}
		}
		w.renew()
	}
	w.close()
	if _, ok := <-woken; ok {
		t.Error("a watch that was closed says that something has happened")
	}
}

func TestAWatchThatCannotBeHadIsLookedAtInstead(t *testing.T) {
	w := &maskWatch{closed: make(chan struct{})}
	if !w.wait() {
		t.Error("it does not ask to look")
	}
	w.close()
	if w.wait() {
		t.Error("it asks to look after its end")
	}
}

// inotifyEvent is one as the kernel writes it.
func inotifyEvent(wd int32, mask uint32, name string) []byte {
	size := 0
	if name != "" {
		size = (len(name)/16 + 1) * 16
	}
	b := make([]byte, unix.SizeofInotifyEvent, unix.SizeofInotifyEvent+size)
	binary.NativeEndian.PutUint32(b, uint32(wd))
	binary.NativeEndian.PutUint32(b[4:], mask)
	binary.NativeEndian.PutUint32(b[12:], uint32(size))
	return append(append(b, name...), make([]byte, size-len(name))...)
}

func FuzzInotify(f *testing.F) {
	f.Add(inotifyEvent(1, unix.IN_CREATE, "mask"))
	f.Add(append(inotifyEvent(1, unix.IN_CREATE, "other"), inotifyEvent(1, unix.IN_MOVED_TO, "mask")...))
	f.Add(inotifyEvent(-1, unix.IN_Q_OVERFLOW, ""))
	f.Add(inotifyEvent(1, unix.IN_IGNORED, ""))
	f.Add(inotifyEvent(1, unix.IN_CREATE, "mask")[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		watch := func() *maskWatch {
			return &maskWatch{names: map[string]map[string]bool{"/d": {"mask": true}}, dirs: map[int32]string{1: "/d"}}
		}
		first := watch().concerned(b)
		// What concerns it does so after anything that is whole, too.
		if !watch().concerned(append(inotifyEvent(1, unix.IN_CREATE, "other"), b...)) && first {
			t.Error("an event was missed behind another")
		}
		if !watch().concerned(append(inotifyEvent(1, unix.IN_DELETE, "mask"), b...)) {
			t.Error("an event was missed before others")
		}
	})
}
