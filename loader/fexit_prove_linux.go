package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
)

// proveFexit has every fexit program see what it is there for, once, in a sandbox of
// its own, before there are others. It leaves no numbers.
func (l *Loader) proveFexit() error {
	hits, err := l.provoked(context.Background(), l.opts.Cgroup, selfTestName, "fexit")
	if err := errors.Join(err, l.told.reset()); err != nil {
		return fmt.Errorf("test fexit programs: %w", err)
	}
	want := []string{callExit, answerExit}
	for _, w := range works {
		if l.programs[fexitPin+w.program] != nil {
			want = append(want, w.program)
		}
	}
	for _, name := range want {
		if !hits[name] {
			return fmt.Errorf("program %s is attached, and did nothing", name)
		}
	}
	return nil
}

// No one, root included, makes or moves a name in devpts, nor removes one in /proc,
// which knows of no name that is not there: ENOENT.
const (
	procFile   = "/proc/version"
	procFolder = "/proc/tty"
	ptsFile    = "/dev/pts/ptmx"
	ptsNew     = "/dev/pts/" + selfTestName
)

// hidden are names in folders that not everybody may look into; one of them is there.
var hidden = []string{"/proc/1/fd/0", "/root/" + selfTestName}

// provokeWorks has every function refuse a name that fexit programs are attached to.
func provokeWorks() {
	if fd, err := unix.Open(ptsNew, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600); err == nil {
		unix.Close(fd)
	}
	unix.Mkdir(ptsNew, 0o700)
	unix.Unlink(procFile)
	unix.Rmdir(procFolder)
	unix.Rename(ptsFile, ptsNew)
	unix.Link(ptsFile, ptsNew)
	unix.Symlink(ptsFile, ptsNew)
	runtime.LockOSThread() // what a thread is in file systems, it is alone
	defer runtime.UnlockOSThread()
	before, _ := unix.SetfsuidRetUid(65534)
	for _, name := range hidden {
		unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_TYPE, &unix.Statx_t{})
	}
	unix.Setfsuid(before)
}

// provokeAnswer has a call that would end otherwise answered with EACCES.
func provokeAnswer() {
	var sizes struct{ notif, resp, data uint16 }
	_, _, _ = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	refused, listening := make(chan struct{}), make(chan int)
	go func() {
		defer close(refused)
		runtime.LockOSThread() // for good: the filter is this thread's
		fd := listenTo(unix.SYS_CHDIR)
		listening <- fd
		if fd >= 0 {
			_ = unix.Chdir(answeredPath)
		}
	}()
	fd := <-listening
	if fd < 0 {
		return
	}
	notif, resp := make([]byte, max(sizes.notif, 80)), make([]byte, max(sizes.resp, 24)) // linux/seccomp.h
	ioctl := func(cmd uintptr, b []byte) unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cmd, uintptr(unsafe.Pointer(&b[0])))
		return errno
	}
	for {
		clear(notif)
		switch ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, notif) {
		case unix.EINTR, unix.ENOENT: // a signal, to one or the other
			continue
		}
		copy(resp, notif[:8]) // which call
		errno := -int32(unix.EACCES)
		binary.NativeEndian.PutUint32(resp[16:], uint32(errno))
		if ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, resp) != unix.ENOENT {
			break
		}
	}
	unix.Close(fd)
	<-refused
}

// answeredPath is not there: without an answer it is ENOENT, which is no refusal.
const answeredPath = "/" + selfTestName

// listenTo gives a descriptor by which this thread's calls of this number are
// answered, or -1.
func listenTo(nr uint32) int {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// noteWork finds the fexit program that a record proves: it must have the name, too.
func noteWork(hits map[string]bool, r Record, pid int) {
	path, to := string(r.Event.Object.Path), string(r.Event.Object.To)
	switch p := r.Event.Process; {
	case p == nil || p.PID != pid:
		return
	case r.seen == callExit && path == answeredPath:
		hits[answerExit] = true
		return
	case r.seen != recorders[bpf.KernelHookHOOK_NAME]:
		return
	}
	named := path == procFile || path == procFolder || path == ptsFile || path == ptsNew || slices.Contains(hidden, path)
	if named && (to == "" || to == ptsNew) && r.Event.Object.PathSource == "kernel" {
		hits[workOf(r.Call, path)] = true
	}
}

// workOf tells apart what one call does with files and with folders.
func workOf(call, path string) string {
	if call == "unlinkat" && path == procFolder {
		return "rmdir_exit"
	}
	for _, w := range works {
		if slices.Contains(w.calls, call) {
			return w.program
		}
	}
	return ""
}
