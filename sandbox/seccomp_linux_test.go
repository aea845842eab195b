package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// filtered prepares a copy of the test binary for what cannot be undone.
func filtered(helper string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+helper)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// execFiltered becomes a program under the filter.
func execFiltered(args []string) error {
	runtime.LockOSThread()
	if _, err := installSeccomp(plan.DefaultSeccomp(), false, 0); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	os.Unsetenv(helperEnv)
	return syscall.Exec(path, args, os.Environ())
}

func TestOrdinaryProgramsRunUnderTheFilter(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module hello\n\ngo 1.21\n")
	write("main.go", "package main\n\nfunc main() { println(\"hello\") }\n")
	for name, command := range map[string]string{
		"bash":    `bash -c 'set -o pipefail; echo hello | tr a-z A-Z | tr A-Z a-z; (sleep 0 & wait)'`,
		"git":     `git init -q r && git -C r -c user.name=a -c user.email=a@b commit -q --allow-empty -m hello && git -C r log --format=%s`,
		"node":    `node -e 'new (require("worker_threads").Worker)("1",{eval:true}).on("exit",()=>require("child_process").execFile("echo",["hello"],(e,o)=>console.log(o)))'`,
		"python":  `python3 -c 'import subprocess,threading,multiprocessing,socket; t=threading.Thread(target=lambda:None); t.start(); t.join(); socket.socketpair(); p=multiprocessing.Process(target=print,args=("hello",)); p.start(); p.join(); subprocess.run(["true"],check=True)'`,
		"go":      `GOFLAGS=-mod=mod go build -o hello . && ./hello 2>&1`,
		"curl":    `echo hello > f && curl -s file://$PWD/f`,
		"ip":      `ip -o link show lo >/dev/null && echo hello`,
		"hosts":   `getent hosts localhost >/dev/null && echo hello`,
		"threads": `seq 100 | xargs -P 8 -n 1 true && echo hello`,
	} {
		t.Run(name, func(t *testing.T) {
			program := strings.Fields(strings.TrimPrefix(command, "GOFLAGS=-mod=mod "))[0]
			if _, err := exec.LookPath(program); err != nil {
				t.Skip("not installed: ", err)
			}
			cmd := filtered("seccomp-exec", "/bin/sh", "-c", command)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "hello") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The filter refuses as root, too, where the kernel itself would not.
func TestFilterRefusesForReal(t *testing.T) {
	out, err := filtered("seccomp-try").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "all tried\n") || strings.Contains(string(out), "WRONG") {
		t.Errorf("%v\n%s", err, out)
	}
}

// tryRefused makes every refused call, on the thread that has the filter.
func tryRefused([]string) error {
	runtime.LockOSThread()
	if _, err := installSeccomp(plan.DefaultSeccomp(), false, 0); err != nil {
		return err
	}
	native, err := plan.ParseArch(runtime.GOARCH)
	if err != nil {
		return err
	}
	for _, r := range plan.DefaultSeccomp().Rules {
		if r.Unless != nil || r.Only != nil {
			continue
		}
		for _, call := range r.Calls {
			if nr, ok := native.Syscall(call); ok {
				expect(call, syscall.Errno(r.Errno), uintptr(nr))
			}
		}
	}
	const junk = 0xdead << 32
	expect("unix", 0, unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	expect("unix datagram", unix.EACCES, unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	expect("connect without a supervisor", unix.EACCES, unix.SYS_CONNECT, ^uintptr(0), 0, 0)
	expect("vsock", unix.EACCES, unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	expect("vsock under junk", unix.EACCES, unix.SYS_SOCKET, unix.AF_VSOCK|junk, unix.SOCK_STREAM|junk, junk)
	expect("packet", unix.EACCES, unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0)
	expect("raw", unix.EACCES, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
	expect("alg", unix.EACCES, unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	expect("netfilter", unix.EACCES, unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
	expect("udp-lite", unix.EACCES, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE)
	expect("tcp", 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	expect("tcp under junk", 0, unix.SYS_SOCKET, unix.AF_INET6|junk, unix.SOCK_STREAM|junk, junk)
	expect("udp", 0, unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	expect("route", 0, unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	pair := uintptr(unsafe.Pointer(&[2]int32{}))
	expect("stream pair", 0, unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, pair)
	expect("datagram pair", unix.EACCES, unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM, 0, pair)
	expect("unshare files", 0, unix.SYS_UNSHARE, unix.CLONE_FILES)
	expect("unshare mounts", unix.EPERM, unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	expect("unshare user under junk", unix.EPERM, unix.SYS_UNSHARE, unix.CLONE_NEWUSER|junk)
	expect("clone into a namespace", unix.EPERM, unix.SYS_CLONE, unix.CLONE_NEWUTS|uintptr(unix.SIGCHLD))
	expect("type in", unix.EPERM, unix.SYS_IOCTL, 0, unix.TIOCSTI, 0)
	expect("type in under junk", unix.EPERM, unix.SYS_IOCTL, 0, unix.TIOCSTI|junk, 0)
	expect("window size", unix.ENOTTY, unix.SYS_IOCTL, 0, unix.TIOCGWINSZ, 0)
	expect("lease", unix.EPERM, unix.SYS_FCNTL, 0, unix.F_SETLEASE|junk, unix.F_RDLCK)
	expect("delegation", unix.EPERM, unix.SYS_FCNTL, 0, unix.F_SETDELEG, 0)
	expect("x32 getpid", unix.ENOSYS, plan.X32Bit|39)
	expect("newer", unix.ENOSYS, 472)
	_, err = installSeccomp(plan.DefaultSeccomp(), false, 0)
	if err != nil {
		fmt.Println("WRONG: no second filter:", err)
	}
	fmt.Println("all tried")
	return nil
}

func expect(what string, want syscall.Errno, nr uintptr, args ...uintptr) {
	var a [4]uintptr
	copy(a[:], args)
	if _, _, got := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], 0, 0); got != want {
		fmt.Printf("WRONG: %s: %d, want %d\n", what, got, want)
	}
}

// The 32-bit entry is another table, with numbers that the filter does not know.
func TestFilterRefusesThe32BitEntry(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("int 0x80 is amd64's")
	}
	const code = `
import ctypes, mmap
m = mmap.mmap(-1, 4096, prot=7)
m.write(bytes.fromhex("b814000000" "cd80" "c3")) # mov eax, 20 (getpid); int 0x80; ret
f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
print("result", f())
`
	if out, err := exec.Command("python3", "-c", code).CombinedOutput(); err != nil || strings.Contains(string(out), "-") {
		t.Skipf("no 32-bit entry to try: %v %s", err, out)
	}
	out, err := filtered("seccomp-exec", "python3", "-c", code).CombinedOutput()
	if err != nil || string(out) != "result -38\n" {
		t.Errorf("%v %s", err, out)
	}
}

// With notify the same filter hands its denials to a listener, once.
func TestFilterNotifiesAListener(t *testing.T) {
	out, err := filtered("seccomp-notify").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func notifyListener([]string) error {
	type result struct {
		fd  int
		err error
	}
	installed, answered := make(chan result), make(chan error)
	go func() {
		runtime.LockOSThread()
		fd, err := installSeccomp(plan.DefaultSeccomp(), true, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
		installed <- result{fd, err}
		if err != nil {
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); errno != unix.ENOSYS {
			answered <- fmt.Errorf("clone3: %v", errno)
			return
		}
		_, err = installSeccomp(plan.DefaultSeccomp(), true, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
		if !errors.Is(err, unix.EBUSY) {
			answered <- fmt.Errorf("second listener: %v", err)
			return
		}
		_, _, errno := unix.Syscall(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
		if errno != unix.EDOM {
			answered <- fmt.Errorf("socket: %v", errno)
			return
		}
		answered <- nil
	}()
	r := <-installed
	if r.err != nil {
		return r.err
	}
	// struct seccomp_notif and seccomp_notif_resp, linux/seccomp.h.
	var req [80]byte
	const recv, send = 0xc0502100, 0xc0182101
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), recv, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("receive: %w", errno)
	}
	if nr := *(*int32)(unsafe.Pointer(&req[16])); nr != unix.SYS_SOCKET {
		return fmt.Errorf("notified of call %d", nr)
	}
	resp := struct {
		id    uint64
		val   int64
		errno int32
		flags uint32
	}{id: *(*uint64)(unsafe.Pointer(&req[0])), errno: -int32(unix.EDOM)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), send, uintptr(unsafe.Pointer(&resp))); errno != 0 {
		return fmt.Errorf("answer: %w", errno)
	}
	return <-answered
}

// installSeccomp assembles a filter and puts it on the calling thread.
func installSeccomp(s plan.Seccomp, notify bool, flags uint) (int, error) {
	filter, err := seccompFilter(s, notify)
	if err != nil {
		return -1, err
	}
	return stage2.InstallFilter(filter, flags)
}
