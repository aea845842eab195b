package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	attacks["x32"] = func([]string) error { return call(0x40000000|39, 0, 0, 0) }
	attacks["i386"] = func([]string) error { return getpidI386() }
	helpers["callers"] = refusedByAll
	helpers["flood"] = func() { flood(atoi(os.Args[1]), atoi(os.Args[2])) }
	helpers["vary"] = func() {
		for i := range uintptr(atoi(os.Args[1])) {
			_ = call(unix.SYS_SOCKET, 100+i*7919, i, i*2654435761)
		}
	}
	helpers["ownfilter"] = ownFilters
	helpers["vsock"] = func() { _ = vsock() }
}

func vsock() error { return call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0) }

// getpidI386 makes a call by the 32-bit entry, whose numbers are another table.
func getpidI386() error {
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	copy(code, "\xb8\x14\x00\x00\x00\xcd\x80\xc3") // mov eax, 20; int 0x80; ret
	entry := &code[0]
	f := *(*func() int32)(unsafe.Pointer(&[]*(*byte){&entry}[0]))
	if n := f(); n < 0 {
		return unix.Errno(-n)
	}
	return nil
}

// refusedByAll is refused as a thread, as children, and as a program that took
// the place of another.
func refusedByAll() {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		_ = vsock()
		close(done)
	}()
	<-done
	for range 50 {
		child := exec.Command("/proc/self/exe")
		child.Env = []string{helperEnv + "=vsock"}
		if err := child.Run(); err != nil {
			fmt.Println(err)
		}
	}
	child := exec.Command("/bin/sh", "-c", "exec /proc/$PPID/exe")
	child.Env = []string{helperEnv + "=vsock"}
	if out, err := child.CombinedOutput(); err != nil {
		fmt.Printf("%v %s\n", err, out)
	}
}

// flood makes refused calls on several threads, and connects beside them.
func flood(threads, calls int) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}()
	var wg sync.WaitGroup
	var over atomic.Bool
	for range threads {
		wg.Go(func() {
			for range calls {
				_ = vsock()
			}
		})
	}
	go func() { wg.Wait(); over.Store(true) }()
	var worst time.Duration
	for !over.Load() {
		start := time.Now()
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			panic(err)
		}
		worst = max(worst, time.Since(start))
		c.Close()
	}
	fmt.Printf("slowest connect beside it: %f ms\n", worst.Seconds()*1000)
}

// ownFilters installs filters that would answer in the supervisor's place.
func ownFilters() {
	runtime.LockOSThread()
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	install := func(answer uint32, flags uintptr) error {
		filter := []unix.SockFilter{
			load(0), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
			load(16), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_VSOCK, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: answer},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		}
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		defer runtime.KeepAlive(filter)
		return call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	}
	fmt.Println("second listener:", errnoName(install(unix.SECCOMP_RET_ALLOW, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)))
	if err := install(unix.SECCOMP_RET_USER_NOTIF, 0); err != nil {
		fmt.Println(err)
	}
	fmt.Println("vsock, notified by its own filter:", errnoName(vsock()))
	if err := install(unix.SECCOMP_RET_ERRNO|uint32(unix.E2BIG), 0); err != nil {
		fmt.Println(err)
	}
	fmt.Println("vsock, refused by its own filter:", errnoName(vsock()))
	fmt.Println("packet:", errnoName(call(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0)))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}})
	}
	fmt.Println("connect:", errnoName(err))
}
