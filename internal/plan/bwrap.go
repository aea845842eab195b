package plan

import (
	"strconv"

	"github.com/sallyport/sallyport/internal/plan/inside"
)

// Descriptors as stage 1 hands them to bubblewrap; the first is stage 1's own.
const (
	FDControl   = 3 // stage 1 <-> supervisor
	FDArgs      = 4 // bubblewrap's arguments, NUL-separated, and then the end
	FDInit      = inside.FDInit
	FDStderr    = inside.FDStderr
	FDFirstFile = 7 // the first of Plan.Files
	// OwnFiles is how many descriptors are kept for them.
	OwnFiles = 3
)

// BwrapArgs gives bubblewrap's options, without argv[0] and the command, which
// is InitPath: they are passed with --args, which takes no command. Operations are
// performed in order: parents before children, read-only remounts last.
func (p *Plan) BwrapArgs() []string { return p.BwrapArgsBut(p.LateMounts()) }

// BwrapArgsBut is BwrapArgs for who has the late mounts at hand.
func (p *Plan) BwrapArgsBut(late []Late) []string {
	args := []string{"--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--hostname", Hostname, "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"}
	if p.Caps.DisableUserns {
		args = append(args, "--disable-userns")
	}
	b := bwrapArgs{plan: p, late: late, args: args}
	b.base()
	b.mounts()
	b.files()
	return append(b.args, "--chdir", "/")
}

type bwrapArgs struct {
	plan *Plan
	late []Late
	args []string
	last []string // to be done after everything else
}

func (b *bwrapArgs) add(args ...string) { b.args = append(b.args, args...) }

func (b *bwrapArgs) perms(mode string) {
	if b.plan.Caps.Perms {
		b.add("--perms", mode)
	}
}

// base makes the tree that everything else is mounted on.
func (b *bwrapArgs) base() {
	switch root := b.root(); root.Access {
	case ReadWrite:
		b.add("--bind", "/", "/")
	case ReadOnly:
		b.add("--ro-bind", "/", "/")
	default: // bubblewrap starts from an empty tmpfs
		b.last = append(b.last, "--remount-ro", "/")
	}
	b.add("--dev", "/dev", "--proc", "/proc")
	if b.plan.Root {
		// Its files belong to the host's user 0, who needs no capability to write
		// kernel.core_pattern, and with it to run a program as root outside.
		// bubblewrap's own cover looks at the directory's mode alone.
		b.last = append(b.last, "--remount-ro", "/proc")
	}
	b.perms("1777")
	b.add("--tmpfs", "/tmp", "--tmpfs", "/run")
	if d := b.plan.RuntimeDir; privateOf(d) != "" {
		b.private(d)
	}
}

func (b *bwrapArgs) private(dir string) {
	b.perms("0700")
	b.add("--tmpfs", dir)
}

func (b *bwrapArgs) root() Mount {
	if m := b.plan.Mounts; len(m) > 0 && m[0].Path == "/" {
		return m[0]
	}
	return Mount{Path: "/", Access: ReadOnly}
}

func (b *bwrapArgs) mounts() {
	late := b.late // in the same order
	for _, m := range b.plan.Mounts {
		switch {
		case len(late) > 0 && m.Path == late[0].Path:
			late = late[1:]
		case m.Path == "/":
		case m.Link != "":
			b.add("--symlink", m.Link, m.Path)
		case m.Access == ReadWrite && privateOf(m.Path) == "/dev":
			b.add("--dev-bind", m.Path, m.Path)
		case m.Access == ReadWrite:
			b.add("--bind", m.Path, m.Path)
		case m.Access == ReadOnly:
			b.add("--ro-bind", m.Path, m.Path)
		case m.Access == Private:
			b.private(m.Path)
		case m.Dir && m.Shut: // on the tmpfs of a hidden directory, read-only in the end
			b.perms(shutMode(m))
			b.add("--dir", m.Path)
		case m.Dir:
			b.hideDir(m)
		default:
			// bubblewrap binds with nodev, and opening a device there is EACCES
			// (mount(8)): an unreadable file that needs no file on the host.
			b.add("--ro-bind", "/dev/null", m.Path)
		}
	}
}

// shutMode lets pass what is open in a hidden directory, and nothing be listed.
func shutMode(m Mount) string {
	if m.Open {
		return "0111"
	}
	return "0000"
}

func (b *bwrapArgs) hideDir(m Mount) {
	b.perms(shutMode(m))
	b.add("--tmpfs", m.Path)
	b.last = append(b.last, "--remount-ro", m.Path)
}

func (b *bwrapArgs) files() {
	for i, f := range b.plan.Files {
		b.add("--ro-bind-data", strconv.Itoa(FDFirstFile+i), f.Path)
	}
	b.add(b.last...)
	b.add("--ro-bind", b.plan.Exe, InitPath) // the last: with a part of these arguments nothing can be executed
}
