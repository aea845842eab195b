package plan

import (
	"cmp"
	"strings"
)

// comparePaths orders paths by their bytes, but "/" comes before all others.
func comparePaths(a, b string) int {
	if i := strings.LastIndexByte(a, '/'); i == strings.LastIndexByte(b, '/') && a[:i] == b[:i] {
		return strings.Compare(a, b) // of one directory, as most are
	}
	i, n := 0, min(len(a), len(b))
	for i < n && a[i] == b[i] {
		i++
	}
	switch {
	case i == n:
		return cmp.Compare(len(a), len(b))
	case a[i] == '/':
		return -1
	case b[i] == '/':
		return 1
	}
	return cmp.Compare(a[i], b[i])
}

// privateOf gives the private directory that p is in, or nothing.
func privateOf(p string) string {
	for _, d := range privateDirs {
		if below(p, d) {
			return d
		}
	}
	return ""
}

// parent is path.Dir of an absolute, clean path.
func parent(p string) string { return p[:max(1, strings.LastIndexByte(p, '/'))] }

// below reports whether p is dir or inside it.
func below(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}
