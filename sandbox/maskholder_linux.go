package sandbox

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// holders finds, by the mask's path, the processes that have open what a mask
// hides, or for writing what it protects. A mapping without a descriptor is not
// found.
func (g *masks) holders(covered []maskState) map[string][]int {
	out := map[string][]int{}
	if len(covered) == 0 {
		return out
	}
	init := g.box.calls.inside.init
	mounts := mountIDs(init)
	for pid := range descendants(init) {
		for path := range heldBare(pid, covered, mounts) {
			out[path] = append(out[path], pid)
		}
	}
	return out
}

func heldBare(pid int, covered []maskState, mounts map[string]bool) map[string]bool {
	out := map[string]bool{}
	eachDescriptor(pid, func(fd int) bool {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_PATH != 0 {
			return true
		}
		for _, m := range covered {
			if (m.Access != plan.ReadOnly || flags&unix.O_ACCMODE != unix.O_RDONLY) && m.isBehind(fd, mounts) {
				out[m.Path] = true
			}
		}
		return true
	})
	return out
}

// isBehind reports whether a descriptor is of what was bare: the file that was
// seen, or another that had the path for a moment. Not so one that the payload
// was given as a standard stream, which is of a mount of the host's.
func (m maskState) isBehind(fd int, mounts map[string]bool) bool {
	if m.Pin && m.Access == plan.ReadWrite {
		return false
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || !mounts[mountID(fmt.Sprintf("/proc/self/fdinfo/%d", fd))] {
		return false
	}
	if st.Dev == m.found.Dev && st.Ino == m.found.Ino {
		return true
	}
	name, err := pathOf(fd)
	return err == nil && (name == m.Path || name == m.Path+" (deleted)" || strings.HasPrefix(name, m.Path+"/"))
}

// mountIDs lists the mounts that a process sees (proc_pid_mountinfo(5)).
func mountIDs(pid int) map[string]bool {
	out := map[string]bool{}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid)) // ended: it holds nothing
	for line := range strings.Lines(string(b)) {
		id, _, _ := strings.Cut(line, " ")
		out[id] = true
	}
	return out
}

// mounted is a mount as a process sees it, and those of its flags that nothing
// takes away.
type mounted struct {
	path string
	keep uintptr
}

// mountsOf lists what a process sees mounted.
func mountsOf(pid int) (out []mounted) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid)) // ended: it holds nothing
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		m := mounted{path: mountEscapes.Replace(fields[4])}
		for option := range strings.SplitSeq(fields[5], ",") {
			m.keep |= keptOptions[option]
		}
		out = append(out, m)
	}
	return out
}

// mountEscapes undoes those of mountinfo.
var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

var keptOptions = map[string]uintptr{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC}

// mountID takes the mount of a descriptor (proc_pid_fdinfo(5)).
func mountID(fdinfo string) string {
	b, _ := os.ReadFile(fdinfo) // closed: it has none
	for line := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}
