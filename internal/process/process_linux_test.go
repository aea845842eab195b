package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/cgroup"
)

// child starts a program of a user's and takes hold of it.
func child(t *testing.T, uid int, argv ...string) *Process {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill(); _ = cmd.Wait(); p.Close() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it runs what it is to run
		t.Fatal(err)
	}
	return p
}

func TestOnlyOnesOwnChildThatIsAloneMayBePlaced(t *testing.T) {
	uid := os.Getuid()
	if uid == 0 {
		uid = 65534
	}
	self, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	alone := child(t, uid, "/bin/sh", "-c", "echo; exec sleep 1000")
	parent := child(t, uid, "/bin/sh", "-c", "sleep 1000 & echo; wait")
	c := &Checker{Parent: "/sallyport-nowhere"}
	if err := c.Placeable(alone, self, uint32(uid)); err != nil {
		t.Errorf("a child of one's own: %v", err)
	}
	for name, test := range map[string]struct {
		target, caller *Process
		uid            int
		say            string
	}{
		"another's child":    {alone, parent, uid, "not a child"},
		"another user's":     {alone, self, uid + 1, "another user's"},
		"with children":      {parent, self, uid, "children already"},
		"oneself":            {self, self, uid, "not a child"},
		"one that has ended": {ended(t), self, uid, ""},
	} {
		err := c.Placeable(test.target, test.caller, uint32(test.uid))
		if err == nil || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%s: %v, want %q", name, err, test.say)
		}
	}
}

// ended has hold of a process that is no more.
func ended(t *testing.T) *Process {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err := p.Alive(); !errors.Is(err, ErrEnded) {
		t.Errorf("alive: %v", err)
	}
	return p
}

func TestWhoWasMovedOutOfACgroupIsNoticedAndWhoEndedIsNot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes cgroups at the top")
	}
	mount, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	g, err := cgroup.Make(mount, fmt.Sprintf("process-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(Evacuate(g), g.Remove()); err != nil {
			t.Error(err)
		}
	}()
	p := child(t, 65534, "/bin/sh", "-c", "echo; exec sleep 1000")
	if err := g.Place(p.PID, p.FD); err != nil {
		t.Fatal(err)
	}
	c := &Checker{Parent: "/" + filepath.Base(g.Dir)}
	self, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if err := c.Placeable(p, self, 65534); err == nil || !strings.Contains(err.Error(), "in a sandbox") {
		t.Errorf("one that is in a sandbox: %v", err)
	}
	if Strayed(p, g.Dir) {
		t.Error("strayed where it was put")
	}
	if err := Evacuate(g); err != nil {
		t.Fatal(err)
	}
	if !Strayed(p, g.Dir) {
		t.Error("moved out, and not noticed")
	}
	if Strayed(ended(t), g.Dir) {
		t.Error("one that has ended is said to have strayed")
	}
}
