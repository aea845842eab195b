package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const soon = 5 * time.Second

// parent makes a cgroup of the test's own.
func parent(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making cgroups takes root")
	}
	name := fmt.Sprintf("cgroup-test-%d", time.Now().UnixNano())
	dir, err := Parent(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g, err := Open(dir)
		if err == nil {
			err = errors.Join(g.Kill(soon), g.Remove())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func makeGroup(t *testing.T, parent, name string) *Group {
	t.Helper()
	g, err := Make(parent, name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// sleeper is a process outside, with its descriptor.
func sleeper(t *testing.T) (*exec.Cmd, int) {
	t.Helper()
	fd := -1
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if fd < 0 {
		t.Fatal("no descriptor of a process: Linux 5.3 has them")
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); unix.Close(fd) })
	return cmd, fd
}

func TestAGroupKnowsItsDepthAndNumber(t *testing.T) {
	dir := parent(t)
	g := makeGroup(t, dir, "a")
	var st unix.Stat_t
	if err := unix.Stat(g.Dir, &st); err != nil {
		t.Fatal(err)
	}
	p, err := Stat(dir)
	if err != nil || p.Depth != 1 || g.Info.Depth != 2 || g.Info.ID != st.Ino || g.Info.ID == p.ID {
		t.Errorf("parent %+v, %v; group %+v; inode %d", p, err, g.Info, st.Ino)
	}
	if _, err := Make(dir, "a"); !errors.Is(err, os.ErrExist) {
		t.Errorf("the same again: %v", err)
	}
	for _, bad := range []string{"/", "/tmp", "/proc", dir + "/none", dir + "/cgroup.procs/x"} {
		if info, err := Stat(bad); err == nil {
			t.Errorf("%s is taken for %+v", bad, info)
		}
	}
}

func TestAProcessIsPlacedOnceItIsSureWhoItIs(t *testing.T) {
	dir := parent(t)
	g := makeGroup(t, dir, "a")
	cmd, fd := sleeper(t)
	if err := g.Place(cmd.Process.Pid, fd); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Processes(); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("processes %v, %v", pids, err)
	}
	other, otherFD := sleeper(t)
	if err := g.Place(other.Process.Pid, fd); !errors.Is(err, ErrGone) {
		t.Errorf("with another's descriptor: %v", err)
	}
	other.Process.Kill()
	other.Wait()
	if err := g.Place(other.Process.Pid, otherFD); !errors.Is(err, ErrGone) {
		t.Errorf("after its end: %v", err)
	}
	if err := g.Place(1, int(os.Stdin.Fd())); err == nil {
		t.Error("without a descriptor of a process")
	}
	if pids, _ := g.Processes(); len(pids) != 1 {
		t.Errorf("processes %v after refusals", pids)
	}
}

func TestFreezingStopsAndKillingEndsEveryProcess(t *testing.T) {
	for name, kill := range map[string]func(*Group) error{
		"by the kernel": func(g *Group) error { return g.Kill(soon) },
		"one by one": func(g *Group) error {
			err := g.killEach(soon)
			empty, waitErr := g.wait("populated", false, soon)
			if !empty {
				err = errors.Join(err, errors.New("still populated"))
			}
			return errors.Join(err, waitErr)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := makeGroup(t, parent(t), "a")
			below := makeGroup(t, g.Dir, "below")
			for _, in := range []*Group{g, below, below} {
				cmd, fd := sleeper(t)
				if err := in.Place(cmd.Process.Pid, fd); err != nil {
					t.Fatal(err)
				}
			}
			if err := g.Freeze(soon); err != nil {
				t.Fatal(err)
			}
			if is, err := g.is("frozen"); err != nil || !is {
				t.Errorf("frozen: %v, %v", is, err)
			}
			if err := g.Remove(); err == nil {
				t.Error("removed with processes in it")
			}
			if err := g.Thaw(); err != nil {
				t.Fatal(err)
			}
			if err := kill(g); err != nil {
				t.Fatal(err)
			}
			if pids, err := g.Processes(); err != nil || len(pids) != 0 {
				t.Errorf("left: %v, %v", pids, err)
			}
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
			if err := g.Kill(soon); err != nil {
				t.Errorf("kill what is gone: %v", err)
			}
			if err := g.Remove(); err != nil {
				t.Errorf("remove what is gone: %v", err)
			}
		})
	}
}

func TestSweepingLeavesWhatIsStillWanted(t *testing.T) {
	dir := parent(t)
	stale, kept := makeGroup(t, dir, "stale"), makeGroup(t, dir, "kept")
	cmd, fd := sleeper(t)
	if err := stale.Place(cmd.Process.Pid, fd); err != nil {
		t.Fatal(err)
	}
	removed, err := Sweep(dir, func(name string, info Info) bool { return info == kept.Info }, soon)
	if err != nil || len(removed) != 1 || removed[0] != "stale" {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, err := os.Stat(stale.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stale: %v", err)
	}
	if _, err := os.Stat(kept.Dir); err != nil {
		t.Errorf("kept: %v", err)
	}
}

func TestTheParentIsNeverBelowTheOwnCgroup(t *testing.T) {
	if os.Getenv("CGROUP_TEST_CHILD") != "" {
		_, err := Parent(os.Getenv("CGROUP_TEST_CHILD"))
		if !errors.Is(err, ErrOwn) {
			t.Errorf("below the own cgroup: %v", err)
		}
		return
	}
	dir := parent(t)
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestTheParentIsNeverBelowTheOwnCgroup$")
	cmd.Env = append(os.Environ(), "CGROUP_TEST_CHILD="+filepath.Base(dir)+"/sandboxes")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWarmingUpLeavesThisProcessWhereItIs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root moves processes everywhere")
	}
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if err := Warm(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile("/proc/self/cgroup"); err != nil || string(after) != string(before) {
		t.Errorf("before: %s; after: %s, %v", before, after, err)
	}
}

func TestAnybodyMayReadWhatLimitsHaveStopped(t *testing.T) {
	old := syscall.Umask(0o077) // of a hardened service
	defer syscall.Umask(old)
	g := makeGroup(t, parent(t), "seen")
	fi, err := os.Stat(g.Dir)
	if err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", fi, err)
	}
}
