package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// denials writes a policy with n paths in a list.
func (p *place) denials(b *testing.B, key string, n int) string {
	b.Helper()
	var s strings.Builder
	fmt.Fprintf(&s, "filesystem:\n  %s:\n", key)
	for i := range n {
		fmt.Fprintf(&s, "    - many/f%d\n", i)
	}
	file := filepath.Join(p.home, fmt.Sprintf("%s-%d.yaml", key, n))
	if err := os.WriteFile(file, []byte(s.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	return file
}

// BenchmarkStart10000Denials is a start, and a start and an end, with one denial,
// and with ten thousand of files that are there. The target is a start of twice
// the time at most.
func BenchmarkStart10000Denials(b *testing.B) {
	const n = 10_000
	p := newPlace(b)
	if err := os.Mkdir(p.work+"/many", 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(fmt.Sprintf("%s/many/f%d", p.work, i), nil, 0o666); err != nil {
			b.Fatal(err)
		}
	}
	with := func(name, policy string) contender {
		return contender{name: name, argv: slices.Concat([]string{p.binary, "run", "--policy", policy, "--"}, clock)}
	}
	p.race(b, with("one", p.denials(b, "denyRead", 1)), with("hidden", p.denials(b, "denyRead", n)), with("readonly", p.denials(b, "denyWrite", n)))
}
