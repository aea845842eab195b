package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// without parses as if there were no runs.
func without(t *testing.T, least int, text string) (*File, error) {
	t.Helper()
	old := leastRun
	leastRun = least
	defer func() { leastRun = old }()
	return Parse(Source{Name: "p", Data: []byte(text)})
}

func sameFile(a, b *File, errA, errB error) string {
	if fmt.Sprint(errA) != fmt.Sprint(errB) {
		return fmt.Sprintf("errors differ:\n%v\n%v", errA, errB)
	}
	if errA != nil {
		return ""
	}
	show := func(f *File) string {
		var b strings.Builder
		fmt.Fprintln(&b, f.keys, f.off, f.reasons, f.envRules, f.pass, f.unset, f.set)
		for _, l := range []*[]hostEntry{f.allowed, f.denied, f.resolved} {
			if l != nil {
				fmt.Fprintln(&b, *l)
			}
		}
		for _, l := range []*[]pathEntry{f.denyRead, f.allowRead, f.allowWrite, f.denyWrite, f.unixSockets} {
			if l != nil {
				fmt.Fprintln(&b, *l)
			}
		}
		return b.String()
	}
	if x, y := show(a), show(b); x != y {
		return fmt.Sprintf("files differ:\n%s\n%s", x, y)
	}
	return ""
}

// What is taken out of the parser's hands is read as the parser reads it.
func TestRunsAreReadAsTheParserReadsThem(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	parts := []string{"network:", "  allowedDomains:", "  deniedDomains:", "filesystem:", "  denyRead:", "  allowWrite:", "  deniedDomainReasons:",
		"    - a.example.com", "    - b.example.com", "    - c.example.com:443", "    - /srv/x", "    - ~/y", "    - d.example.com", "    - e.example.com",
		"    - a.example.com", "    - f.example.com", "    - /x/y.z",
		"  - g.example.com", "  - h.example.com", "  - i.example.com", "- j.example.com", "- k.example.com", "- l.example.com",
		"    - true", "    - 1.5", "    - \"q.example.com\"", "    - 'r'", "    - x: y", "    - [a.b, c.d]", "      more", "    # comment", "", "   ",
		"  allowedDomains: [a.b]", "    x.y: |", "    x.y: >", "      - s.example.com", "      - t.example.com", "    x.y: \"open", "    close\"", "    x.y: text",
		"    - *alias", "    - &anchor x.y", "---", "...", "    - 10.0.0.0/8", "    - sallyport.run", "    - bad..name", "    - UPPER.example.com ", "\t- tab.x"}
	read := 0
	for range cases(8_000, 2000) {
		var b strings.Builder
		b.WriteString("network:\n  allowedDomains:\n"[:r.IntN(2)*27])
		for range 3 + r.IntN(14) {
			part := parts[r.IntN(len(parts))]
			for range 1 + r.IntN(3) {
				b.WriteString(part + "\n")
			}
		}
		text := b.String()
		plain, errPlain := without(t, 1<<30, text)
		short, errShort := without(t, 1, text)
		if why := sameFile(plain, short, errPlain, errShort); why != "" {
			t.Fatalf("%s\nof\n%s", why, text)
		}
		if errPlain == nil {
			read++
		}
	}
	if read < 5 {
		t.Errorf("only %d could be read", read)
	}
}

func TestALargePolicyIsCondensed(t *testing.T) {
	text := large(2000)
	short, found := condense(text)
	if n := strings.Count(string(short), runMark); n == 0 || n != len(found) || len(short) > len(text)/2 {
		t.Errorf("%d runs, %d of %d bytes left", n, len(short), len(text))
	}
	plain, errPlain := without(t, 1<<30, string(text))
	condensed, err := without(t, 64, string(text))
	if why := sameFile(plain, condensed, errPlain, err); why != "" {
		t.Error(why[:min(2000, len(why))])
	}
}

func FuzzRuns(f *testing.F) {
	f.Add("network:\n  allowedDomains:\n    - a.b\n    - c.d\n    - e.f\n")
	f.Add("filesystem:\n  denyRead:\n  - /a\n  - /b\n  - /c\n  allowRead: [x]\n")
	f.Fuzz(func(t *testing.T, text string) {
		plain, errPlain := without(t, 1<<30, text)
		short, errShort := without(t, 1, text)
		if why := sameFile(plain, short, errPlain, errShort); why != "" {
			t.Fatal(why)
		}
	})
}
