package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// aWorld is a mount namespace with nobody but a sleeper in it, and a directory
// of files d0/file, d1/file, ..., and of directories and files many/d0, many/f0...
func aWorld(t testing.TB, files int) (g *masks, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "late-") // not in /tmp, as for a sandbox
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for i := range files {
		d := fmt.Sprintf("%s/d%d", dir, i)
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d+"/file", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(fmt.Sprintf("%s/many/d%d", dir, i), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/many/f%d", dir, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/bin/sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g = &masks{gone: map[string]bool{}, root: -1, mount: -1, user: -1}
	t.Cleanup(func() {
		g.leave()
		cmd.Process.Kill()
		cmd.Wait()
	})
	if err := g.enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return g, dir
}

// lateOf makes a list of masks of all kinds below a directory.
func lateOf(dir string, files int) (late []plan.Late) {
	add := func(m plan.Mount) { late = append(late, plan.Late{Mount: m, Base: "/"}) }
	for i := range files {
		d := fmt.Sprintf("%s/d%d", dir, i)
		switch i % 4 {
		case 0:
			add(plan.Mount{Path: d, Access: plan.ReadWrite, Dir: true, Pin: true})
			add(plan.Mount{Path: d + "/file", Access: plan.ReadOnly})
		case 1:
			add(plan.Mount{Path: d, Access: plan.ReadOnly, Dir: true})
		case 2:
			add(plan.Mount{Path: d, Access: plan.Hidden, Dir: true})
		default:
			add(plan.Mount{Path: d + "/file", Access: plan.Hidden})
		}
	}
	add(plan.Mount{Path: dir + "/many", Access: plan.ReadWrite, Dir: true, Pin: true})
	for i := range files {
		add(plan.Mount{Path: fmt.Sprintf("%s/many/d%d", dir, i), Access: plan.Access(i % 3), Dir: true, Pin: i%3 == 2})
		add(plan.Mount{Path: fmt.Sprintf("%s/many/f%d", dir, i), Access: plan.Access(i % 2)})
	}
	return late
}

// state tells of what is at a path in the world.
func (g *masks) state(t testing.TB, path string) (flags int64, device, mounted bool) {
	t.Helper()
	fd, err := unix.Openat2(g.root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer unix.Close(fd)
	var vfs unix.Statfs_t
	var st unix.Statx_t
	if err := unix.Fstatfs(fd, &vfs); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		t.Fatal(err)
	}
	return int64(vfs.Flags), st.Mode&unix.S_IFMT == unix.S_IFCHR, st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

const since512 = "since Linux 5.12"

// needAttributes skips the way of kernels that have mount_setattr(2) on others.
func needAttributes(t *testing.T, way string) {
	t.Helper()
	if way == since512 && !canSetAttributes() {
		t.Skip("there is no mount_setattr(2)")
	}
}

func TestLateMountsAreMadeTheSameOnAllKernels(t *testing.T) {
	const files = 12
	const rest = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	for name, make := range map[string]func(g *masks, late []plan.Late) error{
		since512: func(g *masks, late []plan.Late) error {
			return newLateMounter(late).run(g.user, g.mount, time.Minute)
		},
		"before": func(g *masks, late []plan.Late) error { return g.coverRest(late, os.Getpid()) },
	} {
		t.Run(name, func(t *testing.T) {
			needAttributes(t, name)
			g, dir := aWorld(t, files)
			late := lateOf(dir, files)
			if err := make(g, late); err != nil {
				t.Fatal(err)
			}
			for _, l := range late {
				flags, device, mounted := g.state(t, l.Path)
				want := l.Access != plan.ReadWrite
				if !mounted || flags&rest == rest != want || device != (l.Access == plan.Hidden && !l.Dir) {
					t.Errorf("%s: flags %#x, a device: %t, a mount: %t", l.Mount, flags, device, mounted)
				}
			}
			for _, at := range []string{readOnlyCopy, plainCopy} {
				if fd, err := unix.Openat(g.root, strings.TrimPrefix(at+dir, "/"), unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
					unix.Close(fd)
					t.Errorf("a copy of everything is left on %s", at)
				}
			}
		})
	}
}

func TestALateMountThatCannotBeMadeIsAnError(t *testing.T) {
	for name, make := range map[string]func(g *masks, late []plan.Late) error{
		since512: func(g *masks, late []plan.Late) error {
			return newLateMounter(late).run(g.user, g.mount, time.Minute)
		},
		"before": func(g *masks, late []plan.Late) error { return g.coverRest(late, os.Getpid()) },
	} {
		t.Run(name, func(t *testing.T) {
			needAttributes(t, name)
			for _, spoil := range []func(file string) error{
				os.Remove,
				func(file string) error { return os.RemoveAll(filepath.Dir(file)) },
			} {
				g, dir := aWorld(t, 4)
				late := lateOf(dir, 4)
				last := late[len(late)-1].Path
				if err := spoil(last); err != nil {
					t.Fatal(err)
				}
				if err := make(g, late); err == nil || !strings.Contains(err.Error(), filepath.Dir(last)) {
					t.Errorf("a mask without its file: %v", err)
				}
			}
		})
	}
}

func TestTheMountsOfAProcessAreListed(t *testing.T) {
	for _, m := range mountsOf(os.Getpid()) {
		var vfs unix.Statfs_t
		if m.path != "/proc" || unix.Statfs(m.path, &vfs) != nil {
			continue
		}
		if want := uintptr(vfs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC); m.keep != want {
			t.Errorf("/proc: flags %#x, want %#x", m.keep, want)
		}
		return
	}
	t.Error("no /proc")
}

// BenchmarkLateMounts is 10 000 of them.
func BenchmarkLateMounts(b *testing.B) {
	const files = 3_077
	for b.Loop() {
		b.StopTimer()
		g, dir := aWorld(b, files)
		late := lateOf(dir, files)
		b.StartTimer()
		if err := newLateMounter(late).run(g.user, g.mount, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
