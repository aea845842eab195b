package loader

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
)

// proveFexit has every fexit program see what it is there for, once, in a sandbox of
// its own, before there are others. It leaves no numbers.
func (l *Loader) proveFexit() error {
	hits, err := l.provoked(context.Background(), l.opts.Cgroup)
	if err != nil {
		return fmt.Errorf("test fexit programs: %w", err)
	}
	want := []string{callExit}
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
	return l.told.reset()
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

// noteWork finds the fexit program that a record proves: it must have the name, too.
func noteWork(hits map[string]bool, r Record, pid int) {
	if p := r.Event.Process; p == nil || p.PID != pid || r.seen != recorders[bpf.KernelHookHOOK_NAME] {
		return
	}
	path, to := string(r.Event.Object.Path), string(r.Event.Object.To)
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
