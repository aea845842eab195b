package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// supervised is a thread of this process under the filter, with the rest of
// the process as its supervisor.
type supervised struct {
	*listener
	calls  chan func()
	mu     sync.Mutex
	events []event.Event
}

func supervise(flags uint, decide func(string) policy.Decision) (*supervised, error) {
	s := &supervised{calls: make(chan func())}
	fds := make(chan int)
	var err error
	greeted := make(chan unix.Errno, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the filter goes with the thread
		var fd int
		fd, err = installSeccomp(plan.DefaultSeccomp(), true, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|flags)
		fds <- fd
		_, _, errno := unix.Syscall(unix.SYS_SOCKET, 0, 0, 0)
		greeted <- errno
		for f := range s.calls {
			f()
		}
	}()
	fd := <-fds
	if err != nil {
		return nil, err
	}
	arch, err := plan.ParseArch(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	s.listener = newListener(fd, plan.DefaultSeccomp(), arch, &inside{decide: decide}, s.take)
	s.restarts = flags == 0
	go s.serve()
	if err := <-s.ready; err != nil {
		return nil, err
	}
	if errno := <-greeted; errno != stage2.Handshake {
		return nil, fmt.Errorf("handshake: %w", errno)
	}
	return s, nil
}

func (s *supervised) take(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (s *supervised) taken() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Event(nil), s.events...)
}

// await gives the events of an operation since the first ones, at least so many of
// them: before Linux 5.19 a call is recorded just after its answer.
func (s *supervised) await(since, want int, ops ...event.Operation) []event.Event {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var found []event.Event
		for _, e := range s.taken()[since:] {
			if slices.Contains(ops, e.Operation) {
				found = append(found, e)
			}
		}
		if len(found) >= want || time.Now().After(deadline) {
			return found
		}
	}
}

// die closes the listener. Its number stays taken until serve has ended, which may
// wait on it and would else serve the next one.
func (s *supervised) die() error {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	return unix.Dup3(null, s.fd, unix.O_CLOEXEC)
}

// do runs f on the filtered thread.
func (s *supervised) do(f func()) {
	done := make(chan struct{})
	s.calls <- func() { defer close(done); f() }
	<-done
}

func (s *supervised) call(nr uintptr, args ...uintptr) (errno unix.Errno) {
	var a [3]uintptr
	copy(a[:], args)
	s.do(func() { _, _, errno = unix.Syscall(nr, a[0], a[1], a[2]) })
	return errno
}

func allowAll(string) policy.Decision {
	return policy.Decision{Verdict: event.Allow, Rule: policy.Rule{Name: "test"}}
}

func init() {
	helpers["listener"] = func([]string) error {
		if err := setupLoopback(plan.Network{Proxy4: plan.DefaultNetwork().Proxy4}, netlinkHere(unix.NETLINK_ROUTE)); err != nil {
			return err
		}
		killable := tryListener(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
		if errors.Is(killable, unix.EINVAL) && olderThan(5, 19) {
			killable = nil
		}
		return errors.Join(killable, tryListener(0))
	}
}

// olderThan tells kernels apart that do not have a feature yet.
func olderThan(major, minor int) bool {
	var u unix.Utsname
	var a, b int
	if unix.Uname(&u) != nil {
		return false
	}
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return err == nil && (a < major || a == major && b < minor)
}

func TestListenerAnswersAndItsDeathRefuses(t *testing.T) {
	calls := 600
	if testing.Short() {
		calls = 60
	}
	if out, err := inNewNet("listener", t.TempDir(), strconv.Itoa(calls)).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func tryListener(flags uint) error {
	s, err := supervise(flags, allowAll)
	if err != nil {
		return err
	}
	var errs []error
	check := func(what string, got, want unix.Errno) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", what, got, want))
		}
	}
	check("vsock", s.call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0), unix.EACCES)
	check("ptrace", s.call(unix.SYS_PTRACE, 0, 0, 0), unix.EPERM)
	if runtime.GOARCH == "amd64" {
		check("x32", s.call(plan.X32Bit|39), unix.ENOSYS)
	}
	first := s.await(0, 2, event.NetSocket, event.SysRefused)
	for i, want := range []event.Operation{event.NetSocket, event.SysRefused} {
		if len(first) <= i || first[i].Operation != want || first[i].Process == nil || first[i].Process.PID != os.Getpid() {
			errs = append(errs, fmt.Errorf("event %d: %+v", i, first))
			break
		}
	}
	errs = append(errs, sameConnects(s)...)
	errs = append(errs, interruptedCalls(s)...)
	if err := s.die(); err != nil {
		return err
	}
	check("without a listener", s.call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0), unix.ENOSYS)
	check("connect without a listener", s.call(unix.SYS_CONNECT, 0, 0, 0), unix.ENOSYS)
	return errors.Join(errs...)
}

// interruptedCalls makes calls while signals rain on their thread: each is
// answered and recorded once, and none is performed twice.
func interruptedCalls(s *supervised) (errs []error) {
	if _, err := listenUnix(filepath.Join(os.Args[1], "rain")); err != nil && !errors.Is(err, unix.EADDRINUSE) {
		return []error{err}
	}
	calls, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return []error{err}
	}
	before := len(s.taken())
	wrong := map[unix.Errno]int{}
	stop := make(chan struct{})
	var rain sync.WaitGroup
	s.do(func() {
		tid := unix.Gettid()
		rain.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // which Go's runtime handles
				}
			}
		})
		addrs := [][]byte{unixAddress(filepath.Join(os.Args[1], "rain")), []byte("\x01\x00\x00e2e")}
		for i := range calls {
			_, _, errno := unix.Syscall(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
			if errno != unix.EACCES {
				wrong[errno]++
			}
			fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&addrs[i%2][0])), uintptr(len(addrs[i%2]))); errno != 0 {
				wrong[errno]++
			}
			unix.Close(fd)
		}
	})
	close(stop)
	rain.Wait()
	if len(wrong) > 0 {
		errs = append(errs, fmt.Errorf("under signals: %v, restarts %v", wrong, s.restarts))
	}
	refused := len(s.await(before, calls, event.NetSocket))
	// A caller that does not wait through signals may be interrupted after its
	// answer was taken, and ask again: a record too many, never one too few.
	if refused < calls || refused > calls && !s.restarts || refused > calls+calls/10 {
		errs = append(errs, fmt.Errorf("under signals: %d of %d refusals recorded", refused, calls))
	}
	return errs
}

// sameConnects compares what connect(2) says with the supervisor and without:
// for mistakes, for sockets in every state, and for every kind of address.
func sameConnects(s *supervised) (errs []error) {
	dir, err := os.MkdirTemp(os.Args[1], "")
	if err != nil {
		return []error{err}
	}
	target, err := listenAll(dir)
	if err != nil {
		return []error{err}
	}
	for _, c := range connects(dir, target) {
		var there, here unix.Errno
		s.do(func() { there = c.try() })
		here = c.try()
		if s.restarts && c.repeats && there == 0 {
			continue // taken for the repetition of a call that was interrupted
		}
		if there != here {
			errs = append(errs, fmt.Errorf("%s: %v under supervision, else %v", c.name, there, here))
		}
	}
	return errs
}

// listenAll listens on TCP, on a path and on an abstract name, and accepts.
func listenAll(dir string) (port int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	for _, name := range []string{dir + "/stream", "@e2e"} {
		if _, err := listenUnix(name); err != nil && !errors.Is(err, unix.EADDRINUSE) {
			return 0, err
		}
	}
	if err := acceptAll(fd); err != nil {
		return 0, err
	}
	return must(unix.Getsockname(fd)).(*unix.SockaddrInet4).Port, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
}

func listenUnix(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, acceptAll(fd)
}

func acceptAll(fd int) error {
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	go func() {
		for {
			if c, _, err := unix.Accept(fd); err == nil {
				unix.Close(c)
			}
		}
	}()
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type oneConnect struct {
	name    string
	try     func() unix.Errno
	repeats bool
}

func connects(dir string, port int) []oneConnect {
	inet := func(port int) []byte {
		return []byte{2, 0, byte(port >> 8), byte(port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	socket := func(family, kind int, f func(fd int) unix.Errno) func() unix.Errno {
		return func() unix.Errno {
			fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err.(unix.Errno)
			}
			defer unix.Close(fd)
			return f(fd)
		}
	}
	to := func(addr []byte) func(int) unix.Errno { return func(fd int) unix.Errno { return rawConnect(fd, addr) } }
	twice := func(addr []byte) func(int) unix.Errno {
		return func(fd int) unix.Errno { rawConnect(fd, addr); return rawConnect(fd, addr) }
	}
	raw := func(fd, addr, n uintptr) func() unix.Errno {
		return func() unix.Errno { _, _, e := unix.Syscall(unix.SYS_CONNECT, fd, addr, n); return e }
	}
	var buf [200]byte
	path := func(p string) []byte { return unixAddress(p) }
	abstract := []byte("\x01\x00\x00e2e")
	list := []oneConnect{
		{name: "no descriptor", try: raw(^uintptr(0), uintptr(unsafe.Pointer(&buf)), 16)},
		{name: "no such descriptor", try: raw(9999, uintptr(unsafe.Pointer(&buf)), 16)},
		{name: "no socket", try: raw(0, uintptr(unsafe.Pointer(&buf)), 16)},
		{name: "no memory", try: socket(2, 1, func(fd int) unix.Errno { return raw(uintptr(fd), 8, 16)() })},
		{name: "no address", try: socket(2, 1, func(fd int) unix.Errno { return raw(uintptr(fd), 0, 0)() })},
		{name: "too long", try: socket(2, 1, func(fd int) unix.Errno { return raw(uintptr(fd), uintptr(unsafe.Pointer(&buf)), 129)() })},
		{name: "negative length", try: socket(2, 1, func(fd int) unix.Errno { return raw(uintptr(fd), uintptr(unsafe.Pointer(&buf)), ^uintptr(0))() })},
		{name: "short address", try: socket(2, 1, to(inet(port)[:8]))},
		{name: "unspecified family", try: socket(2, 1, to(make([]byte, 16)))},
		{name: "netlink, the kernel", try: socket(16, 3, to([]byte{16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}))},
		{name: "abstract", try: socket(1, 1, to(abstract))},
		{name: "abstract, absent", try: socket(1, 1, to([]byte("\x01\x00\x00none")))},
		{name: "abstract, twice", repeats: true, try: socket(1, 1, twice(abstract))},
		{name: "unnamed", try: socket(1, 1, to(abstract[:2]))},
		{name: "another family's address", try: socket(1, 1, to(inet(port)))},
		{name: "a unix address on TCP", try: socket(2, 1, to(path(dir+"/stream")))},
		{name: "path", try: socket(1, 1, to(path(dir+"/stream")))},
		{name: "path, twice", repeats: true, try: socket(1, 1, twice(path(dir+"/stream")))},
		{name: "path, up and down", try: socket(1, 1, to(path(dir+"/../"+filepath.Base(dir)+"/./stream")))},
		{name: "path, another type", try: socket(1, 5, to(path(dir+"/stream")))},
		{name: "path, absent", try: socket(1, 1, to(path(dir+"/none")))},
		{name: "path, no directory", try: socket(1, 1, to(path(dir+"/file/x")))},
		{name: "path, a file", try: socket(1, 1, to(path(dir+"/file")))},
		{name: "path, a directory", try: socket(1, 1, to(path(dir)))},
		{name: "path, a device", try: socket(1, 1, to(path("/dev/null")))},
		{name: "path too long", try: socket(1, 1, to(append(path("/"), make([]byte, 120)...)))},
	}
	for name, kind := range map[string]int{"blocking": 0, "non-blocking": unix.SOCK_NONBLOCK} {
		list = append(list,
			oneConnect{name: "udp, " + name, try: socket(2, 2|kind, to(inet(port)))},
			oneConnect{name: "tcp, refused, " + name, try: socket(2, 1|kind, func(fd int) unix.Errno { return settle(fd, rawConnect(fd, inet(1))) })},
			oneConnect{name: "tcp, " + name, try: socket(2, 1|kind, func(fd int) unix.Errno { return settle(fd, rawConnect(fd, inet(port))) })},
			oneConnect{name: "tcp, twice, " + name, repeats: true, try: socket(2, 1|kind, func(fd int) unix.Errno {
				settle(fd, rawConnect(fd, inet(port)))
				rawConnect(fd, inet(port)) // 0: it has become connected
				return rawConnect(fd, inet(port))
			})},
			oneConnect{name: "path, " + name, try: socket(1, 1|kind, to(path(dir+"/stream")))},
			oneConnect{name: "flags stay, " + name, try: socket(2, 1|kind, func(fd int) unix.Errno {
				rawConnect(fd, inet(port))
				return unix.Errno(must(unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)) & unix.O_NONBLOCK)
			})},
		)
	}
	return list
}

// settle waits for a connection in progress to have an outcome.
func settle(fd int, errno unix.Errno) unix.Errno {
	if errno != unix.EINPROGRESS {
		return errno
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, _ = unix.Poll(p, 5000)
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err.(syscall.Errno)
	}
	return unix.Errno(got)
}
