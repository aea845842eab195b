package plan

import (
	"cmp"
	"strings"
	"testing"
)

func TestPathsAreOrderedByTheirComponents(t *testing.T) {
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/a b", "/a-b/c", "/a.b", "/a0", "/ab", "/b", "/longer/than/eight", "/longer/than/eight.b/c",
		"/longer/than/eight/c", "/longer/than/eighteen", "/ö"}
	key := func(p string) string { return strings.ReplaceAll(p, "/", "\x00") }
	for _, a := range paths {
		for _, b := range paths {
			if got, want := comparePaths(a, b), cmp.Compare(key(a), key(b)); got != want {
				t.Errorf("%s and %s: %d, want %d", a, b, got, want)
			}
		}
	}
}
