package machine

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// kernelPackage matches the packages that hold a kernel: not the meta packages,
// which name a series only, nor the -dbg and -unsigned ones.
var kernelPackage = regexp.MustCompile(`^linux-image-(\d+\.\d+)\.\d+[a-z0-9.+~-]*-cloud-amd64$`)

// Resolve chooses, among package names, the newest one of the kernel's series.
func (k Kernel) Resolve(packages []string) (string, error) {
	var best string
	for _, name := range packages {
		m := kernelPackage.FindStringSubmatch(name)
		if m == nil || k.Series != "" && m[1] != k.Series {
			continue
		}
		if best == "" || naturalLess(best, name) {
			best = name
		}
	}
	if best == "" {
		return "", fmt.Errorf("no package of kernel %s among %d in suite %s", k.Name, len(packages), k.Suite)
	}
	return best, nil
}

// naturalLess orders names that hold numbers: runs of digits compare as numbers,
// the rest byte by byte, and a prefix comes first.
func naturalLess(a, b string) bool {
	for a != "" && b != "" {
		na, restA := leadingNumber(a)
		nb, restB := leadingNumber(b)
		switch {
		case na >= 0 && nb >= 0:
			if na != nb {
				return na < nb
			}
			a, b = restA, restB
		case a[0] != b[0]:
			return a[0] < b[0]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return len(a) < len(b)
}

// leadingNumber splits off a run of digits; -1 if there is none.
func leadingNumber(s string) (n int64, rest string) {
	end := len(s) - len(strings.TrimLeft(s, "0123456789"))
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if err != nil {
		return -1, s
	}
	return n, s[end:]
}
