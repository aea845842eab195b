package ask

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/sallyport/sallyport/internal/event"
)

// maxShown is how much of a name is shown: of a longer one its end, which says
// whose it is.
const maxShown = 100

// Show gives a host as people may read it. A name is shown as its letters only
// where each label is of one script and both forms are given; else as it is
// sent, in punycode. Whatever comes in, no control, no formatting character and
// no byte that is not text comes out.
func Show(host string) string {
	shown := short(event.Text(host).Printable())
	if !strings.Contains(host, "xn--") {
		return shown
	}
	letters, err := idna.Display.ToUnicode(host)
	if err != nil || letters == host || !readable(letters) {
		return shown
	}
	return short(letters) + " (" + shown + ")"
}

// short keeps the end.
func short(s string) string {
	if len(s) <= maxShown {
		return s
	}
	r := []rune(s)
	return "…" + string(r[max(0, len(r)-maxShown):])
}

// readable reports whether every label is of one script and prints as it is.
func readable(name string) bool {
	for _, label := range strings.Split(name, ".") {
		if label == "" || !oneScript(label) {
			return false
		}
	}
	return true
}

// oneScript reports whether the letters of a label are of one script. Japanese
// and Korean are written in several, which belong together (UTS #39, 5.1).
func oneScript(label string) bool {
	found := ""
	for _, r := range label {
		if !unicode.IsPrint(r) || r == ' ' {
			return false
		}
		s := scriptOf(r)
		switch {
		case s == "Common":
		case s == "":
			return false
		case found == "":
			found = s
		case found != s:
			return false
		}
	}
	return true
}

// families joins scripts that are written together.
var families = map[string]string{"Hiragana": "Han", "Katakana": "Han", "Hangul": "Han", "Bopomofo": "Han"}

func scriptOf(r rune) string {
	switch {
	case r < 0x80 && !unicode.IsLetter(r):
		return "Common"
	case unicode.Is(unicode.Latin, r):
		return "Latin"
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			if family := families[name]; family != "" {
				return family
			}
			if name == "Inherited" {
				return "" // a mark that changes the letter before it
			}
			return name
		}
	}
	return ""
}
