package feature

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a kernel's series: what comes before the second dot.
type Version struct{ Major, Minor int }

// ParseVersion reads the series from a kernel release such as 6.1.0-56-cloud-amd64.
func ParseVersion(release string) (Version, error) {
	major, rest, ok := strings.Cut(release, ".")
	if !ok {
		return Version{}, fmt.Errorf("parse kernel release %q: no dot", release)
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	a, errA := strconv.ParseUint(major, 10, 16)
	b, errB := strconv.ParseUint(rest[:end], 10, 16)
	if errA != nil || errB != nil {
		return Version{}, fmt.Errorf("parse kernel release %q: no MAJOR.MINOR", release)
	}
	return Version{int(a), int(b)}, nil
}

// AtLeast reports whether v is w or newer.
func (v Version) AtLeast(w Version) bool {
	return v.Major > w.Major || v.Major == w.Major && v.Minor >= w.Minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
