package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	attacks["ulisten"] = func(a []string) error { _, err := listenUnix(a[0], a[1], true); return err }
	attacks["ubind"] = func(a []string) error { _, err := listenUnix(a[0], a[1], false); return err }
	attacks["uconnect"] = func(a []string) error { return connectUnix(a[0], a[1]) }
	attacks["cd"] = func(a []string) error { return os.Chdir(a[0]) }
	helpers["race-address"] = func() { raceAddress(os.Args[1], os.Args[2]) }
	helpers["race-link"] = func() { raceLink(os.Args[1], os.Args[2]) }
	helpers["blocking"] = blockingConnects
	helpers["peercred"] = peerCredentials
	helpers["stdin-connect"] = stdinConnect
	helpers["listen-on"] = func() {
		if _, err := listenUnix("stream", os.Args[1], true); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

var unixKinds = map[string]int{"stream": unix.SOCK_STREAM, "seqpacket": unix.SOCK_SEQPACKET}

func listenUnix(kind, name string, accept bool) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unixKinds[kind], 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return -1, err
	}
	if !accept {
		return fd, nil
	}
	if err := unix.Listen(fd, 64); err != nil {
		return -1, err
	}
	go func() {
		for {
			c, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			_, _ = unix.Write(c, []byte("hello"))
			unix.Close(c)
		}
	}()
	return fd, nil
}

// connectUnix wants an answer, too.
func connectUnix(kind, name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unixKinds[kind], 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return err
	}
	var b [8]byte
	if n, err := unix.Read(fd, b[:]); err != nil || string(b[:n]) != "hello" {
		return fmt.Errorf("read %q: %v", b[:n], err)
	}
	return nil
}

// hostSocket is a server of the host's that counts who comes.
type hostSocket struct {
	net.Listener
	path  string
	count atomic.Int64
}

// serveUnix listens below $HOME as a program of the user's would, or anywhere
// if the path is absolute or abstract.
func (h *home) serveUnix(path string) *hostSocket {
	h.t.Helper()
	if !filepath.IsAbs(path) && !strings.HasPrefix(path, "@") {
		path = filepath.Join(h.mkdir(filepath.Dir(path)), filepath.Base(path))
	}
	return h.serveAs(path, func(c *net.UnixConn) { _, _ = io.WriteString(c, "hello") })
}

// untouched fails the test if anybody came.
func (s *hostSocket) untouched(t *testing.T) {
	t.Helper()
	if n := s.count.Load(); n != 0 {
		t.Errorf("%d connections reached %s", n, s.path)
	}
}

func sockaddrUnix(name string) []byte {
	return append(append([]byte{unix.AF_UNIX, 0}, name...), 0)
}

// raceAddress connects while another thread changes the address in memory
// between the sandbox's own socket and one of the host.
func raceAddress(own, hosts string) {
	if _, err := listenUnix("stream", own, true); err != nil {
		panic(err)
	}
	var addr [110]byte
	var stop atomic.Bool
	go func() {
		runtime.LockOSThread()
		a, b := sockaddrUnix(own), sockaddrUnix(hosts)
		for !stop.Load() {
			copy(addr[:], a)
			copy(addr[:], b)
		}
	}()
	results := map[string]int{}
	for range 5000 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			panic(err)
		}
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&addr)), uintptr(len(sockaddrUnix(hosts))))
		results[errnoName(known(errno))]++
		unix.Close(fd)
	}
	stop.Store(true)
	fmt.Println(results["ok"], results["EACCES"])
}

// raceLink connects to a name that another thread makes lead to the sandbox's
// own socket and to one of the host in turn.
func raceLink(own, hosts string) {
	if _, err := listenUnix("stream", own, true); err != nil {
		panic(err)
	}
	name, other := own+".link", own+".other"
	if err := os.Symlink(own, name); err != nil {
		panic(err)
	}
	if err := os.Symlink(hosts, other); err != nil {
		panic(err)
	}
	var stop atomic.Bool
	go func() {
		runtime.LockOSThread()
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
		}
	}()
	results := map[string]int{}
	for range 5000 {
		results[errnoName(connectUnix("stream", name))]++
	}
	stop.Store(true)
	fmt.Println(results["ok"], results["EACCES"])
}

// blockingConnects waits for a full queue: to be emptied, for a time, for a
// signal.
func blockingConnects() {
	l, err := listenUnix("stream", "/tmp/full", false)
	if err != nil {
		panic(err)
	}
	if err := unix.Listen(l, 0); err != nil { // one may wait
		panic(err)
	}
	dial := func(kind int, limit time.Duration) string {
		fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|kind, 0)
		if limit > 0 {
			tv := unix.NsecToTimeval(limit.Nanoseconds())
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
		}
		return errnoName(unix.Connect(fd, &unix.SockaddrUnix{Name: "/tmp/full"}))
	}
	fmt.Println("first:", dial(0, 0))
	fmt.Println("non-blocking:", dial(unix.SOCK_NONBLOCK, 0))
	start := time.Now()
	fmt.Println("with a limit:", dial(0, 300*time.Millisecond), time.Since(start) > 250*time.Millisecond)
	go func() {
		time.Sleep(300 * time.Millisecond)
		_, _, _ = unix.Accept(l)
	}()
	start = time.Now()
	fmt.Println("accepted later:", dial(0, 0), time.Since(start) > 250*time.Millisecond)
	interrupted := make(chan string)
	tid := make(chan int)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		interrupted <- dial(0, 0)
	}()
	thread := <-tid
	for {
		_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG) // which Go's runtime handles
		select {
		case got := <-interrupted:
			fmt.Println("with a signal:", got)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// peerCredentials prints what both sides of a connection see of each other.
func peerCredentials() {
	l, err := net.Listen("unix", "/tmp/cred")
	if err != nil {
		panic(err)
	}
	c, err := net.Dial("unix", "/tmp/cred")
	if err != nil {
		panic(err)
	}
	s, err := l.Accept()
	if err != nil {
		panic(err)
	}
	for side, conn := range map[string]net.Conn{"server": s, "client": c} {
		f, _ := conn.(*net.UnixConn).File()
		cred, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s sees pid %v uid %v gid %v\n", side, cred.Pid == int32(os.Getpid()), cred.Uid == uint32(os.Getuid()), cred.Gid == uint32(os.Getgid()))
	}
}

// stdinConnect tries to use standard input to reach an address.
func stdinConnect() {
	addr := strings.Split(os.Args[1], ":")
	to := &unix.SockaddrInet4{Port: atoi(addr[1]), Addr: [4]byte(net.ParseIP(addr[0]).To4())}
	fmt.Println("connect:", errnoName(unix.Connect(0, to)))
	fmt.Println("sendto:", errnoName(unix.Sendto(0, []byte("out"), 0, to)))
}
