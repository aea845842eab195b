package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	helpers["reside"] = reside
	helpers["visit"] = visit
}

// background is a helper that runs in a sandbox of its own until it is stopped.
type background struct {
	*exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// background starts a helper and waits for its first line, "ready".
func (h *home) background(name string, args ...string) *background {
	h.t.Helper()
	b := h.launch(name, args...)
	if line, err := b.out.ReadString('\n'); line != "ready\n" {
		h.t.Fatalf("%s printed %q: %v", name, line, err)
	}
	return b
}

// launch starts a helper and waits for nothing.
func (h *home) launch(name string, args ...string) *background {
	h.t.Helper()
	all := append([]string{"run", "--quiet", "--policy", h.policy, "-e", helperEnv + "=" + name, "--", h.helperPath()}, args...)
	b := &background{Cmd: h.command(context.Background(), all...)}
	b.SysProcAttr.Pdeathsig = 0 // it outlives the thread that starts it
	b.Stderr = os.Stderr
	var err, outErr error
	b.stdin, err = b.StdinPipe()
	out, outErr := b.StdoutPipe()
	if err = errors.Join(err, outErr, b.Start()); err != nil {
		h.t.Fatal(err)
	}
	b.out = bufio.NewReader(out)
	h.t.Cleanup(func() {
		b.stdin.Close()
		_ = b.Process.Kill()
		_ = b.Wait()
	})
	return b
}

// stop ends it and gives the rest of what it printed.
func (b *background) stop() string {
	b.stdin.Close()
	rest, _ := io.ReadAll(b.out)
	_ = b.Wait()
	return string(rest)
}

const shmKey = 0x5a11

// reside leaves its things where a neighbour could find them.
func reside() {
	must := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	for _, at := range []string{"127.0.0.1:7777", "[::1]:7777", "198.18.0.1:7778", "[::]:7779"} {
		l, err := net.Listen("tcp", at)
		must(err)
		go func() { _ = http.Serve(l, http.NotFoundHandler()) }()
	}
	for _, dir := range []string{"/tmp", "/run", "/dev/shm"} {
		must(os.WriteFile(filepath.Join(dir, "resident"), nil, 0o666))
	}
	_, err := unix.SysvShmGet(shmKey, 4096, unix.IPC_CREAT|0o666)
	must(err)
	for _, name := range []string{"allowed.test", "denied.test"} { // 198.18.0.2 and .3
		_, err := resolver.LookupHost(context.Background(), name)
		must(err)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println("alive")
}

// visit prints what it finds of a neighbour.
func visit() {
	for _, at := range []string{"127.0.0.1:7777", "[::1]:7777", "127.0.0.1:7779", "198.18.0.1:7778", "[fd5a:7b1c:e93d::1]:7779"} {
		if tryTCP([]string{at, someRequest}) == nil {
			fmt.Println("FOUND server", at)
		}
	}
	for _, dir := range []string{"/tmp", "/run", "/dev/shm"} {
		if _, err := os.Stat(filepath.Join(dir, "resident")); err == nil {
			fmt.Println("FOUND file in", dir)
		}
	}
	if _, err := unix.SysvShmGet(shmKey, 4096, 0); err == nil {
		fmt.Println("FOUND shared memory")
	}
	found, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range found {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), helperEnv+"=reside") {
			fmt.Println("FOUND process", f)
		}
	}
	for _, at := range []string{"@resident", "work/socket"} {
		if _, err := net.Dial("unix", at); !errors.Is(err, os.ErrPermission) {
			fmt.Println("FOUND unix socket", at, err)
		}
	}
	// The first fake address is another name here, and the neighbour's second
	// one is none.
	if a, err := resolver.LookupHost(context.Background(), "also.allowed.test"); err != nil || a[0] != "198.18.0.2" {
		fmt.Println("FOUND fake addresses:", a, err)
	}
	if tryTCP([]string{"198.18.0.2:80", `GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n`}) == nil {
		fmt.Println("FOUND the other policy")
	}
	if tryTCP([]string{"198.18.0.3:80", someRequest}) == nil {
		fmt.Println("FOUND address of another name")
	}
	if err := tryTCP([]string{"198.18.0.2:80", `GET / HTTP/1.1\r\nHost: also.allowed.test\r\n\r\n`}); err != nil {
		fmt.Println(err)
	}
	_ = syscall.Kill(-1, syscall.SIGKILL) // whom it sees
	fmt.Println("visited")
}

func TestTwoSandboxesDoNotSeeEachOther(t *testing.T) {
	resident := newHome(t).allow("allowed.test", "denied.test").background("reside")
	visitor := newHome(t).allow("also.allowed.test")
	r := visitor.helper("visit").ok().says("hello from also.allowed.test").says("visited")
	if strings.Contains(r.out, "FOUND") {
		t.Error(r.out)
	}
	if rest := resident.stop(); rest != "alive\n" {
		t.Errorf("the neighbour was ended, or disturbed: %q", rest)
	}
}

// TestHostsUnixSocketsAreOutOfReach holds for a socket in the working
// directory and an abstract one.
func TestHostsUnixSocketsAreOutOfReach(t *testing.T) {
	h := newHome(t)
	path := filepath.Join(h.work, "s")
	for _, at := range []string{path, "@sallyport-e2e-" + filepath.Base(h.dir)} {
		l, err := net.Listen("unix", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if at == path {
			if err := os.Chmod(path, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		h.run("/usr/bin/python3", "-c", "import socket,sys; a=sys.argv[1]; socket.socket(socket.AF_UNIX).connect(a.replace('@', chr(0)))", at).refused()
		if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if c, err := l.Accept(); err == nil {
			c.Close()
			t.Errorf("%s was reached", at)
		}
	}
}
