// Package cgroup owns the cgroups of sandboxes: it finds where version 2 is
// mounted, makes a cgroup a sandbox, puts processes into it, freezes, kills and
// removes it.
//
// It uses version 2 alone, wherever it is mounted: as the only hierarchy, or
// beside those of version 1 ("hybrid"). It never makes a cgroup below the one
// that the calling process is in: a service manager that ends the service would
// take the sandboxes with it.
package cgroup

import (
	"errors"
	"fmt"
	"strings"
)

// Info says which cgroup a folder is.
type Info struct {
	ID    uint64 // the inode's number, by which the kernel's programs know it
	Depth int    // 0: the root of the hierarchy
}

// ErrNone: version 2 is not mounted.
var ErrNone = errors.New("cgroup v2 is not mounted")

// ErrOwn: the cgroup would be below the caller's own.
var ErrOwn = errors.New("below the calling process's own cgroup")

// ErrGone: the process ended, or its number is another's by now.
var ErrGone = errors.New("the process is gone")

// ErrFrozen: the cgroup did not freeze in time.
var ErrFrozen = errors.New("some processes do not freeze")

// mountOf finds the hierarchy's mount point in a mountinfo (proc(5)).
func mountOf(mountinfo string) (string, error) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if fields[3] != "/" {
			continue // a part of it, bound here: depth could not be told
		}
		return unescape(fields[4]), nil
	}
	return "", ErrNone
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ownPath finds a process's cgroup of version 2 in its /proc/PID/cgroup
// (cgroups(7)).
func ownPath(cgroups string) (string, error) {
	for line := range strings.Lines(cgroups) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, nil
		}
	}
	return "", ErrNone
}

// event reads one value of a cgroup.events file.
func event(content, name string) (bool, error) {
	for line := range strings.Lines(content) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return f[1] == "1", nil
		}
	}
	return false, fmt.Errorf("read cgroup.events: no %q in it", name)
}

// validName: a name from outside must name one new folder.
func validName(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, "/\x00\n") && len(name) < 200 &&
		!strings.HasPrefix(name, "cgroup.")
}
