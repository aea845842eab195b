package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// large is a policy of so many names and paths, one in a hundred a pattern.
func large(n int) []byte {
	var b strings.Builder
	b.WriteString("network:\n  allowedDomains:\n")
	for i := range n {
		switch i % 100 {
		case 0:
			fmt.Fprintf(&b, "    - \"*.d%d.example.com\"\n", i)
		case 1:
			fmt.Fprintf(&b, "    - 10.%d.%d.0/24\n", i/256%256, i%256)
		default:
			fmt.Fprintf(&b, "    - host%d.example.com:443\n", i)
		}
	}
	b.WriteString("filesystem:\n  denyRead:\n")
	for i := range n {
		fmt.Fprintf(&b, "    - /srv/a%d/b%d/secret\n", i%97, i)
	}
	b.WriteString("  allowWrite: [., /srv/out, \"/srv/**/*.tmp\"]\n")
	return []byte(b.String())
}

const many = 10_000

// BenchmarkLoad reads a policy of 10 000 names and 10 000 paths: 50 ms at most.
func BenchmarkLoad(b *testing.B) {
	text := large(many)
	for name, sources := range map[string][]Source{
		"own":           {{Name: "p", Data: text}},
		"below_ceiling": {{Name: "c", Data: []byte("network: {deniedDomains: [evil.example.com]}\nfilesystem: {denyRead: [/srv/x]}"), Layer: LayerCeiling}, {Name: "p", Data: text}},
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := Make(testEnv, sources, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecideBelowACeiling decides by such a policy: 5 µs at most.
func BenchmarkDecideBelowACeiling(b *testing.B) {
	p, err := Make(testEnv, []Source{{Name: "c", Data: []byte("network: {deniedDomains: [evil.example.com]}\nfilesystem: {denyRead: [/srv/x]}"), Layer: LayerCeiling},
		{Name: "p", Data: large(many)}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, target := range map[string]string{"name": "host9998.example.com:443", "wildcard": "a.d9900.example.com:80", "none": "a.b.example.org:443",
		"address": "10.39.9.1:80"} {
		req := mustTarget(target)
		b.Run("net_"+name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				p.DecideNet(req)
			}
		})
	}
	for name, path := range map[string]string{"hidden": "/srv/a5/b9996/secret/x", "below_a_pattern": "/srv/a/b/c/d/e.tmp", "home": "/home/u/proj/src/main.go"} {
		for _, op := range []event.Operation{event.FileRead, event.FileWrite} {
			b.Run(fmt.Sprintf("%s_%s", op, name), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					p.DecideFile(op, path)
				}
			})
		}
	}
}

// The bounds are far above what it takes (50 ms, 5 µs), and far below what it
// would take if every rule were looked at.
func TestALargePolicyIsLoadedAndDecidesInTime(t *testing.T) {
	begun := time.Now()
	p, err := Make(testEnv, []Source{{Name: "p", Data: large(many)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	loaded := time.Since(begun)
	begun = time.Now()
	const decisions = 20_000
	for i := range decisions {
		p.DecideFile(event.FileWrite, fmt.Sprintf("/srv/a%d/b%d/secret/x", i%97, i))
	}
	each := time.Since(begun) / decisions
	t.Logf("loaded in %s, a write is decided in %s", loaded, each)
	if loaded > 10*time.Second || each > 500*time.Microsecond {
		t.Errorf("loaded in %s, a write is decided in %s", loaded, each)
	}
}
