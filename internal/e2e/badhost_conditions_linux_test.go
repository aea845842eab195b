package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// More conditions of a bad host; those in lateConditions apply to the user's
// own process, just before it executes the program.
var lateConditions = map[string]func(value string) error{
	"refuse":        refuseCall,
	"refuse-userns": func(errno string) error { return refuseClone(unix.CLONE_NEWUSER, errno) },
	"rlimit":        setLimit,
	"setsid":        func(string) error { _, err := unix.Setsid(); return err },
	"squash":        func(string) error { return squashRoot() },
}

func init() {
	conditions["sysctl"] = forgeSysctl
	conditions["readonly"] = func(dir string) error {
		return inOwnMounts(func() error {
			if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return err
			}
			return unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
		})
	}
	conditions["root"] = anotherRoot
}

// forgeSysctl shows a setting of /proc/sys/kernel that this kernel may not have.
func forgeSysctl(value string) error {
	name, n, _ := strings.Cut(value, ":")
	return inOwnMounts(func() error {
		if err := unix.Mount("none", "/proc/sys/kernel", "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/kernel/"+name, []byte(n+"\n"), 0o644)
	})
}

// anotherRoot makes the root directory an overlay, or a bind mount, of itself.
func anotherRoot(value string) error {
	kind, dir, _ := strings.Cut(value, ":")
	return inOwnMounts(func() error {
		if err := unix.Mount("none", dir, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		root := filepath.Join(dir, "root")
		for _, d := range []string{root, dir + "/upper", dir + "/work"} {
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		var err error
		switch kind {
		case "overlay": // unprivileged since Linux 5.11, with userxattr
			err = unix.Mount("overlay", root, "overlay", 0, "userxattr,lowerdir=/,upperdir="+dir+"/upper,workdir="+dir+"/work")
		case "bind":
			err = unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", kind, err)
		}
		return enterRoot(root, kind == "overlay")
	})
}

func enterRoot(root string, bare bool) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, d := range []string{"/proc", "/dev", "/sys"} {
		if !bare {
			break
		}
		if err := unix.Mount(d, root+d, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", d, err)
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old one is below (pivot_root(2))
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir(cwd)
}

var limits = map[string]int{"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "as": unix.RLIMIT_AS, "fsize": unix.RLIMIT_FSIZE,
	"memlock": unix.RLIMIT_MEMLOCK, "stack": unix.RLIMIT_STACK, "core": unix.RLIMIT_CORE, "data": unix.RLIMIT_DATA}

func setLimit(value string) error {
	name, n, _ := strings.Cut(value, ":")
	which, ok := limits[name]
	if !ok {
		return fmt.Errorf("unknown limit %s", name)
	}
	most := uint64(atoi(n))
	return unix.Prlimit(0, which, &unix.Rlimit{Cur: most, Max: most}, nil)
}

// squashRoot takes from user 0 what lets him pass by permissions, as a server
// that maps him to nobody does (root_squash, exports(5)).
func squashRoot() error {
	for _, c := range []int{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

var refusable = map[string]uint32{"mount": unix.SYS_MOUNT, "flock": unix.SYS_FLOCK}

// refuseCall makes a system call fail, CALL:ERRNO.
func refuseCall(value string) error {
	name, errno, _ := strings.Cut(value, ":")
	nr, ok := refusable[name]
	if !ok {
		return fmt.Errorf("unknown call %s", name)
	}
	return installRefusal([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // its number (struct seccomp_data)
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errnoOf(errno))},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	})
}

// refuseClone makes clone(2) and unshare(2) fail with a flag; clone3(2), whose
// flags no filter sees, is not there.
func refuseClone(flag uint32, errno string) error {
	return installRefusal([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jt: 5},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNSHARE, Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16}, // the first argument
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: flag, Jt: 2},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errnoOf(errno))},
	})
}

func errnoOf(name string) unix.Errno {
	for n := unix.Errno(1); n < 200; n++ {
		if unix.ErrnoName(n) == name {
			return n
		}
	}
	panic("unknown error " + name)
}

func installRefusal(filter []unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	return known(errno)
}
