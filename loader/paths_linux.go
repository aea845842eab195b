package loader

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

// paths fills in what the attempt aimed at in the file system.
func (l *Loader) paths(r *Record, d *denial, cwd string) {
	o := &r.Event.Object
	if d.To.Family == unix.AF_UNIX {
		if d.state(bpf.KernelPartPART_NAME) == pathWhole {
			o.Path, o.PathSource = event.Text(socketName(d.parts[bpf.KernelPartPART_NAME], cwd)), "user"
		}
		return
	}
	if bpf.KernelHook(d.Key.Hook) >= bpf.KernelHookHOOK_LSM_FILE {
		r.names(d)
		return
	}
	first, truncated := onePath(d, bpf.KernelPartPART_NAME, bpf.KernelPartPART_DIR, cwd)
	b := l.boxes.get(r.Cgroup)
	r.canary = b != nil && b.canary != "" && (strings.HasPrefix(first, b.canary) || first == "" && r.Call == canaryCall)
	if first == "" {
		return
	}
	o.PathSource = "user"
	hook := bpf.KernelHook(d.Key.Hook)
	if d.Len[bpf.KernelPartPART_NAME] == 0 || hook == bpf.KernelHookHOOK_NAME || hook == bpf.KernelHookHOOK_RING {
		o.PathSource = "kernel" // a descriptor's, or the kernel's copy of the name
	}
	second, cut := onePath(d, bpf.KernelPartPART_NAME2, bpf.KernelPartPART_DIR2, cwd)
	if d.state(bpf.KernelPartPART_NAME2) == pathAbsent {
		second, cut = "", false
	}
	o.Truncated = truncated || cut
	call := r.likeCall()
	follow := follows(call, d.Args)
	first, found := b.resolve(first, follow)
	o.Path = event.Text(clean(first))
	if found.ok {
		o.DevIno = found.devIno
		if r.Event.Operation == event.FileCreate && found.exists && opens(call) && !exclusive(call, d.Args) {
			r.Event.Operation = event.FileWrite // O_CREAT of what is there
		}
	}
	if second != "" {
		second, _ = b.resolve(second, false)
		o.To = event.Text(clean(second))
	}
}

// likeCall is the call whose arguments the record has: where names are worked upon
// all calls have become these.
func (r *Record) likeCall() string {
	if r.seen != recorders[bpf.KernelHookHOOK_NAME] {
		return r.Call
	}
	if to, ok := map[string]string{"open": "openat", "creat": "openat", "openat2": "openat", "link": "linkat"}[r.Call]; ok {
		return to
	}
	return r.Call
}

// onePath makes a name absolute; still with "..", which only the file system can
// resolve.
func onePath(d *denial, name, dir bpf.KernelPart, cwd string) (p string, truncated bool) {
	base := cwd
	if d.state(dir) != pathAbsent {
		base = joinNames(d.parts[dir], d.state(dir))
	}
	text := cString(d.parts[name])
	switch {
	case d.state(name) == pathUnreadable:
		return "", true
	case d.state(name) == pathAbsent && d.state(dir) == pathAbsent:
		return "", false
	case strings.HasPrefix(text, "/"):
		return withoutProc(text, cwd), false
	case text == "":
		p = base
	default:
		p = strings.TrimSuffix(base, "/") + "/" + text
	}
	return p, strings.HasPrefix(p, "(cut)")
}

// withoutProc takes the magic links to the process's own root and working directory
// out of a name: the resolver's own would be others.
func withoutProc(p, cwd string) string {
	for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(p, self+"root/"); ok {
			return "/" + rest
		}
		if rest, ok := strings.CutPrefix(p, self+"cwd/"); ok && strings.HasPrefix(cwd, "/") {
			return cwd + "/" + rest
		}
	}
	return p
}

// clean is absolute's cleaning for what nothing better was found.
func clean(p string) string {
	if strings.HasPrefix(p, "/") {
		return absolute(p, "")
	}
	return p
}

// socketName is a unix socket's name for people: "@" for abstract ones, as
// unix(7) and ss(8) write them.
func socketName(b []byte, cwd string) string {
	if len(b) > 0 && b[0] == 0 {
		return "@" + strings.TrimRight(string(b[1:]), "\x00")
	}
	return absolute(cString(b), cwd)
}

// Flags of calls that look at the last component as it is, or follow it.
var (
	neverFollow = map[string]bool{"mkdir": true, "mkdirat": true, "mknod": true, "mknodat": true, "unlink": true,
		"unlinkat": true, "rmdir": true, "rename": true, "renameat": true, "renameat2": true, "link": true, "symlink": true,
		"symlinkat": true, "lchown": true, "lsetxattr": true, "lremovexattr": true, "lgetxattr": true, "llistxattr": true,
		"lstat": true, "readlink": true, "readlinkat": true}
	flagsAt = map[string]int{"newfstatat": 3, "fchownat": 4, "utimensat": 3, "faccessat2": 3, "fchmodat2": 3,
		"execveat": 4, "statx": 2, "setxattrat": 2, "removexattrat": 2, "getxattrat": 2, "listxattrat": 2}
)

// follows reports whether a call follows a link that its path ends in.
func follows(call string, args [6]uint64) bool {
	switch call {
	case "open":
		return args[1]&unix.O_NOFOLLOW == 0 && !exclusive(call, args)
	case "openat", "openat2":
		return args[2]&unix.O_NOFOLLOW == 0 && !exclusive(call, args)
	case "linkat":
		return args[4]&unix.AT_SYMLINK_FOLLOW != 0
	case "name_to_handle_at":
		return args[4]&unix.AT_SYMLINK_FOLLOW != 0
	case "inotify_add_watch":
		return args[2]&unix.IN_DONT_FOLLOW == 0
	case "umount2":
		return args[1]&unix.UMOUNT_NOFOLLOW == 0
	}
	if i, ok := flagsAt[call]; ok {
		return args[i]&unix.AT_SYMLINK_NOFOLLOW == 0
	}
	return !neverFollow[call]
}

func opens(call string) bool {
	return call == "open" || call == "openat" || call == "openat2" || call == "creat"
}

// exclusive: the name must not exist, and links are not followed (open(2)).
func exclusive(call string, args [6]uint64) bool {
	flags := args[2]
	switch call {
	case "open":
		flags = args[1]
	case "openat", "openat2":
	default:
		return false
	}
	return flags&unix.O_CREAT != 0 && flags&unix.O_EXCL != 0
}
