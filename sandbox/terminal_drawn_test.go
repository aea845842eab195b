package sandbox

import (
	"strings"
	"testing"
)

func TestTheAlternateScreenIsSeen(t *testing.T) {
	for _, c := range []struct {
		name, out string
		alternate bool
		between   bool
	}{
		{"nothing", "", false, true},
		{"text", "hello\r\n\x1b[31mred\x1b[0m", false, true},
		{"vim begins", "\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=", true, true},
		{"vim ends", "\x1b[?1049h~\x1b[?1049l", false, true},
		{"the old mode", "\x1b[?47h", true, true},
		{"one of several", "\x1b[?25;1047;7h", true, true},
		{"not private", "\x1b[1049h", false, true},
		{"another final", "\x1b[?1049r", false, true},
		{"within a string", "\x1b]0;\x1b[?1049h\x07", false, true},
		{"within a device's string", "\x1bPq\x1b[?1049h\x1b\\", false, true},
		{"cut off and begun anew", "\x1b[?10\x1b[?1049h", true, true},
		{"cancelled", "\x1b[?1049\x18h", false, true},
		{"a reset", "\x1b[?1049h\x1bc", false, true},
		{"half a sequence", "\x1b[?1049", false, false},
		{"half a string", "\x1b]0;title", false, false},
		{"half a charset", "\x1b(", false, false},
		{"a charset", "\x1b(B", false, true},
		{"many parameters", "\x1b[?" + strings.Repeat("1;", 500) + "1049h", false, true},
	} {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			var d drawn
			for b := []byte(c.out); len(b) > 0; b = b[min(size, len(b)):] {
				d.write(b[:min(size, len(b))])
			}
			if d.alternate != c.alternate || d.between() != c.between {
				t.Errorf("%s, in pieces of %d: alternate %v, between %v", c.name, size, d.alternate, d.between())
			}
		}
	}
}

func FuzzDrawn(f *testing.F) {
	for _, s := range []string{"\x1b[?1049h", "\x1b]0;x\x07", "\x1b[?47l\x1bc", "\x1bP\x1b\\"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d drawn
		d.write(b)
		if len(d.params) > maxParams {
			t.Fatalf("%d parameters are kept", len(d.params))
		}
		d.write([]byte("\x18\x1b\\")) // what a prompt begins with
		if !d.between() {
			t.Fatalf("%q swallows what comes after", b)
		}
		d.write([]byte("\x1b[?1049h"))
		if !d.alternate {
			t.Fatalf("after %q the alternate screen is not seen", b)
		}
	})
}
