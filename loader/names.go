package loader

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// How much of a path there is; the kernel's enum part_state.
type pathState uint8

const (
	pathAbsent pathState = iota
	pathWhole
	pathCut        // the end nearest to the root is missing
	pathOutside    // does not lead to the process's root
	pathUnreadable // the process's memory could not be read
)

// joinNames makes a path of names that go from the leaf to the root, a NUL after
// each. What does not begin at the root does not begin with a slash: as in
// getcwd(2), "(unreachable)/..."; and "(cut)/..." where names are missing.
func joinNames(names []byte, state pathState) string {
	if state == pathAbsent || state == pathUnreadable {
		return ""
	}
	parts := bytes.Split(bytes.TrimSuffix(names, []byte{0}), []byte{0})
	if len(names) == 0 {
		parts = nil
	}
	slices.Reverse(parts)
	whole := "/" + string(bytes.Join(parts, []byte{'/'}))
	switch state {
	case pathCut:
		return "(cut)" + whole
	case pathOutside:
		return "(unreachable)" + whole
	}
	return whole
}

// absolute makes a name that a process gave absolute. base is the folder that
// it is relative to. "." and "//" go; "name/.." goes only where nothing better
// is known, since name can be a link.
func absolute(name, base string) string {
	switch {
	case name == "":
		return base
	case strings.HasPrefix(name, "/"):
		return path.Clean(name)
	case strings.HasPrefix(base, "/"):
		return path.Clean(base + "/" + name)
	case base == "":
		return name
	}
	return base + "/" + name // the beginning is not known: ".." could leave it
}

// cString is what comes before the first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// arguments splits a command line as the kernel keeps it. whole is its length
// before it was cut to b.
func arguments(b []byte, whole int) (argv []string, truncated bool) {
	if whole < len(b) {
		b = b[:whole]
	}
	truncated = whole > len(b)
	if len(b) == 0 {
		return nil, truncated
	}
	for _, a := range bytes.Split(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		argv = append(argv, string(a))
	}
	return argv, truncated
}
