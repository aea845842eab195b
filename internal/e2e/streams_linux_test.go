package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox"
)

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFilesAsStandardStreamsAreNotOpenedAgainForWriting(t *testing.T) {
	h := newHome(t)
	in, out := h.write("other/in", "input"), h.write("other/out", "before\n")
	h.stdin, h.stdout = open(t, in, os.O_RDONLY), open(t, out, os.O_WRONLY|os.O_APPEND)
	h.helper("attack", "write /proc/self/fd/0", "rewrite /proc/self/fd/0", "rewrite /proc/self/fd/1", "truncate /proc/self/fd/1",
		"truncate /proc/self/fd/0", "rewrite /dev/stdin", "rewrite /dev/fd/1", "chmod "+in).ok()
	if got := h.read("other/in"); got != "input" {
		t.Errorf("standard input's file holds %q", got)
	}
	got := h.read("other/out")
	if !strings.HasPrefix(got, "before\n") {
		t.Errorf("standard output's file was rewritten: %q", got)
	}
	// Where Landlock does not confine a file, a pipe stands for it, which may be
	// opened again: that leads to the file's end, as any output does.
	pipes := !sandbox.ConfinesFiles(sandbox.LandlockABI())
	for _, line := range strings.Split(strings.TrimSpace(got), "\n")[1:] {
		if pipes && (strings.Contains(line, "/fd/") || strings.Contains(line, "/dev/std")) {
			continue
		}
		if !strings.HasSuffix(line, ": EACCES") && !strings.HasSuffix(line, ": EROFS") {
			t.Errorf("attempt %q", line)
		}
	}
}

func TestDoorsAsStandardStreamsAreRefused(t *testing.T) {
	h := newHome(t)
	dir := open(t, h.dir, os.O_RDONLY)
	path := open(t, h.write("f", "x"), unix.O_PATH)
	doors := map[string]*os.File{"a directory": dir, "an O_PATH descriptor": path}
	if block := blockDevice(t); block != nil {
		doors["a block device"] = block
	}
	for what, f := range doors {
		for i, stream := range []**os.File{&h.stdin, &h.stdout, &h.stderr} {
			*stream = f
			r := h.run("touch", "started")
			*stream = nil
			if i == 2 { // nobody to tell
				if r.code != 125 {
					t.Errorf("%s as standard error: exit status %d", what, r.code)
				}
				h.notStarted()
				continue
			}
			r.badHost(what)
			h.notStarted()
		}
	}
}

// blockDevice opens one that exists; nil for who may not.
func blockDevice(t *testing.T) *os.File {
	names, _ := filepath.Glob("/sys/class/block/*")
	for _, n := range names {
		if f, err := os.Open("/dev/" + filepath.Base(n)); err == nil {
			t.Cleanup(func() { f.Close() })
			return f
		}
	}
	t.Log("no block device that can be opened: not tried")
	return nil
}

// A program whose descriptor 0 is closed gets /dev/null for it from Go's
// runtime, before anything else could take the number.
func TestAClosedStandardInputIsEmpty(t *testing.T) {
	h := newHome(t)
	h.wrap = []string{"close-fd=0"}
	if r := h.helper("stdin").ok(); r.out != "\"\" <nil>\n" {
		t.Errorf("read %s", r.out)
	}
}

func TestNoDescriptorOfTheCallerIsInherited(t *testing.T) {
	h := newHome(t)
	secret := h.write("other/secret", "SECRET")
	h.wrap = []string{"plant-fd=251:" + secret, "plant-fd=3:" + secret, "plant-fd=8:" + secret}
	r := h.helper("fds").ok()
	for line := range strings.Lines(r.out) {
		var n int
		var target string
		fmt.Sscan(line, &n, &target)
		if n > 2 && !strings.Contains(target, "anon_inode") && !strings.HasPrefix(target, "/sys/fs/cgroup/") { // Go's own
			t.Errorf("inherited %s", line)
		}
	}
	if strings.Contains(r.out, "secret") || !strings.Contains(r.out, "0 /dev/null") {
		t.Errorf("descriptors:\n%s", r.out)
	}
}

func TestTheTerminalIsNotTypedInto(t *testing.T) {
	h := newHome(t)
	master, slave := openPTY(t)
	if err := os.Chown(slave.Name(), h.uid, h.gid); err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	h.stdin = slave
	h.attack("typein /dev/stdin: EPERM", "typein64 /dev/stdin: EPERM", "paste /dev/stdin: EPERM")
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(master.Fd()), Events: unix.POLLIN}}, 100); n != 0 || err != nil {
		buf := make([]byte, 64)
		n, _ := master.Read(buf)
		t.Errorf("the terminal echoed %q", buf[:n])
	}
}

// openPTY makes a pseudo terminal.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master = open(t, "/dev/ptmx", os.O_RDWR|unix.O_NOCTTY)
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, open(t, fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY)
}

func TestStandardOutputIsTheCommandsAlone(t *testing.T) {
	h := newHome(t)
	r := h.sh("printf out; printf err >&2; cat ~/.none; exit 3")
	if r.code != 3 || r.out != "out" || !strings.Contains(r.err, "err") {
		t.Errorf("exit status %d, output %q, %q", r.code, r.out, r.err)
	}
}
