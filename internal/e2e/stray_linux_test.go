package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
)

// moveOut moves every process of a cgroup to the top, as root can.
func moveOut(dir string) (moved int) {
	mount, err := cgroup.Mount()
	if err != nil {
		return 0
	}
	b, _ := os.ReadFile(dir + "/cgroup.procs") // gone: none
	for _, pid := range strings.Fields(string(b)) {
		if os.WriteFile(mount+"/cgroup.procs", []byte(pid), 0) == nil {
			moved++
		}
	}
	return moved
}

func TestARunThatIsMovedOutOfItsCgroupIsEnded(t *testing.T) {
	for _, who := range []string{"keeper", "agent"} {
		t.Run(who, func(t *testing.T) {
			var h *home
			if who == "agent" {
				h = newMachine(t).home()
			} else {
				h = traceHome(t)
			}
			before := descendants(t)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			cmd := h.command(ctx, "run", "--", "sh", "-c", "echo started; sleep 1000")
			errOut := saysStarted(t, cmd)
			dir := ""
			for _, p := range descendants(t) {
				if strings.HasPrefix(p.args, "sh -c echo") {
					dir = cgroupOf(t, p.pid)
				}
			}
			if !strings.Contains(dir, "/sallyport") {
				t.Fatalf("the command is in cgroup %q", dir)
			}
			waitFor(t, "the cgroup to be gone", func() bool { moveOut(dir); return unix.Rmdir(dir) != unix.EBUSY })
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(errOut.String(), "sallyport: error: ") {
				t.Errorf("exit status %d\n%s", code, errOut.String())
			}
			h.nothingLeft(before)
			if who == "agent" {
				found := 0
				for _, e := range h.machineEvents() {
					if e.Reason == event.Tampered {
						found++
					}
				}
				if found != 1 {
					t.Errorf("%d events say so", found)
				}
			}
			h.run("true").ok()
		})
	}
}

// Between its placement and the command, somebody takes the sandbox out of the
// cgroup: nothing of the kernel's would refuse or record anything.
func TestWhatTheKernelsProgramsDoNotHoldIsNotStarted(t *testing.T) {
	m := newMachine(t)
	h := m.home()
	sum := sha256.Sum256([]byte(m.state()))
	parent := filepath.Join(mountOf(t), "sallyport-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(parent); err != nil {
		t.Fatal(err)
	}
	var end atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !end.Load() {
			dirs, _ := filepath.Glob(parent + "/*") // none yet
			for _, d := range dirs {
				moveOut(d)
			}
		}
	}()
	defer func() { end.Store(true); <-done }()
	refused := false
	for range 20 { // on a busy machine the other may come too late
		r := h.run("sh", "-c", "echo started")
		if r.code == 125 && strings.Contains(r.err, "sallyport: error: ") && !strings.Contains(r.out, "started") {
			refused = true
			if strings.Contains(r.err, "canary: the kernel's programs do not hold the sandbox") {
				return
			}
		}
	}
	if !refused {
		t.Error("no run was refused")
	}
	t.Error("no run said that nothing holds it")
}

func mountOf(t *testing.T) string {
	t.Helper()
	mount, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	return mount
}

// saysStarted starts a run and waits for its command's first words. It gives what
// the run says on standard error, whole when it has ended.
func saysStarted(t *testing.T, cmd *exec.Cmd) *strings.Builder {
	t.Helper()
	errOut := &strings.Builder{}
	cmd.Stderr = errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatalf("%v: %s", err, errOut.String())
	}
	return errOut
}
