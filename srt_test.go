package sallyport

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	srtRow   = regexp.MustCompile("^\\| `([A-Za-z0-9.]+)` \\| (same|better|refused) \\| (.*) \\| `(Test[A-Za-z0-9]+)` \\|$")
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
)

// Every key of srt's settings has a row in docs/srt.md, and every row a test
// that there is. The keys are those of srt's types.
func TestEveryKeyOfSRTHasARowAndATest(t *testing.T) {
	tests := testNames(t)
	rows := map[string]bool{}
	page, err := os.ReadFile("docs/srt.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Every key")
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		m := srtRow.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not a row: %s", line)
			continue
		}
		if rows[m[1]] {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = true
		if !tests[m[4]] {
			t.Errorf("%s: there is no %s", m[1], m[4])
		}
	}
	list, err := os.Open("testdata/srt-0.0.83-keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	keys := map[string]bool{}
	for lines := bufio.NewScanner(list); lines.Scan(); {
		keys[lines.Text()] = true
		if !rows[lines.Text()] {
			t.Errorf("%s has no row", lines.Text())
		}
	}
	for key := range rows {
		if !keys[key] {
			t.Errorf("%s is no key of srt's", key)
		}
	}
	if len(keys) < 90 {
		t.Errorf("only %d keys", len(keys))
	}
}

// testNames gives every test of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
			out[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
