package loader

import (
	"slices"
	"strings"
	"testing"
)

func TestNamesBecomeAPath(t *testing.T) {
	for _, tt := range []struct {
		name, names string
		state       pathState
		want        string
	}{
		{"root", "", pathWhole, "/"},
		{"one", "a\x00", pathWhole, "/a"},
		{"three", "c\x00b\x00a\x00", pathWhole, "/a/b/c"},
		{"newline", "c\nd\x00a\x00", pathWhole, "/a/c\nd"},
		{"cut", "c\x00b\x00", pathCut, "(cut)/b/c"},
		{"outside", "memfd:x\x00", pathOutside, "(unreachable)/memfd:x"},
		{"absent", "a\x00", pathAbsent, ""},
		{"unreadable", "", pathUnreadable, ""},
	} {
		if got := joinNames([]byte(tt.names), tt.state); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestNamesBecomeAbsolute(t *testing.T) {
	for _, tt := range []struct{ name, base, want string }{
		{"/etc/passwd", "/home", "/etc/passwd"},
		{"x", "/home", "/home/x"},
		{"./x//y/.", "/home", "/home/x/y"},
		{"../../../../x", "/home", "/x"},
		{"/../x/", "/", "/x"},
		{"", "/home", "/home"},
		{"x", "(cut)/b", "(cut)/b/x"},
		{"../x", "(unreachable)", "(unreachable)/../x"},
		{"x", "", "x"},
	} {
		if got := absolute(tt.name, tt.base); got != tt.want {
			t.Errorf("%q in %q: %q, want %q", tt.name, tt.base, got, tt.want)
		}
	}
}

func TestACommandLineIsSplit(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		whole    int
		want     []string
		cut      bool
	}{
		{"none", "", 0, nil, false},
		{"one", "a\x00", 2, []string{"a"}, false},
		{"empty ones", "a\x00\x00b\x00", 5, []string{"a", "", "b"}, false},
		{"old bytes behind it", "a\x00rest", 2, []string{"a"}, false},
		{"cut", "a\x00bcd", 100, []string{"a", "bcd"}, true},
	} {
		got, cut := arguments([]byte(tt.in), tt.whole)
		if !slices.Equal(got, tt.want) || cut != tt.cut {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, got, cut, tt.want, tt.cut)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("c\x00b\x00a\x00", "../x", uint8(1))
	f.Add("", "", uint8(0))
	f.Add("\x00\x00", "a\x00b", uint8(2))
	f.Fuzz(func(t *testing.T, names, name string, state uint8) {
		base := joinNames([]byte(names), pathState(state))
		p := absolute(name, base)
		if strings.HasPrefix(p, "/") && (strings.Contains(p, "/../") || strings.Contains(p, "//")) {
			t.Errorf("%q in %q: %q", name, base, p)
		}
		arguments([]byte(names), len(name))
	})
}
