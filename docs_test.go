package sallyport

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

// pages gives what users read, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no documentation: %v", err)
	}
	out := map[string]string{}
	for _, name := range append(names, "README.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	return out
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

func TestPoliciesInTheDocumentationHaveNoProblems(t *testing.T) {
	env := policy.Env{Home: "/home/u", Cwd: "/home/u/w"}
	found := 0
	for name, text := range pages(t) {
		for _, block := range yamlBlock.FindAllStringSubmatch(text, -1) {
			found++
			f, err := policy.Parse(policy.Source{Name: name, Data: []byte(block[1])})
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, block[1])
				continue
			}
			p, err := policy.New(env, f)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if u := p.Unbuilt(); len(u) > 0 {
				t.Errorf("%s shows %s, which is not built", name, u[0].Key)
			}
		}
	}
	if found == 0 {
		t.Error("no policy is shown anywhere")
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

func TestLinksInTheDocumentationLeadSomewhere(t *testing.T) {
	all := pages(t)
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", name, m[1], err)
			} else if anchor != "" && !hasHeading(all[target], anchor) {
				t.Errorf("%s: %s: no such heading", name, m[1])
			}
		}
	}
}

// hasHeading looks for a heading by the anchor that is made of it.
func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		title := strings.TrimLeft(line, "#")
		if title == line {
			continue
		}
		slug := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), " ", "-")
		if slug == anchor {
			return true
		}
	}
	return false
}
