package audit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// TestLossOnAFullDiskIsRecorded fills a real file system, a small tmpfs in a
// namespace of its own, which an ordinary user may make too.
func TestLossOnAFullDiskIsRecorded(t *testing.T) {
	const inside = "SALLYPORT_TEST_FULL_DISK"
	if os.Getenv(inside) != "" {
		testFullDisk(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLossOnAFullDiskIsRecorded$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("user namespaces are forbidden here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func testFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(mount, unix.MNT_DETACH) }()
	dir := filepath.Join(mount, "audit")
	w := create1(t, dir)
	written, failed := uint64(0), uint64(0)
	for failed < 20 {
		err := w.Append(at(0))
		switch {
		case err == nil:
			written++
		case errors.Is(err, unix.ENOSPC):
			failed++
		default:
			t.Fatal(err)
		}
	}
	if s := w.Stats(); s.Lost[whereLog] != failed || s.Events != written {
		t.Errorf("%d written, %d failed, stats %+v", written, failed, s)
	}
	if got := readAll(t, w.Path()); uint64(len(got)) < written {
		t.Errorf("%d events while the disk is full, want %d", len(got), written)
	}
	if c, err := Create(dir, Header{Sandbox: event.Sandbox{ID: "second"}}); err == nil {
		t.Errorf("a log was started on a full disk: %s", c.Path())
	}
	if err := w.Close(); err != nil { // the disk is still full: only the reserve has room
		t.Fatal(err)
	}
	got := readAll(t, w.Path())
	last := got[len(got)-1]
	if uint64(len(got)) != written+1 || last.LostSinceLast != failed || last.Verdict != event.Audit {
		t.Errorf("%d events, the last %+v; want a record of %d lost", len(got), last, failed)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
