package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// The oracle says the rules once more, slowly and over the text of the entries,
// sharing nothing with the code under test but the types of its answers.

type oracle struct {
	allowed, denied, resolved                  []string
	denyRead, allowRead, allowWrite, denyWrite []string
}

func (o oracle) yaml() string {
	list := func(key string, l []string) string {
		q := make([]string, len(l))
		for i, s := range l {
			q[i] = strconv.Quote(s)
		}
		return "  " + key + ": [" + strings.Join(q, ", ") + "]\n"
	}
	return "network:\n" + list("allowedDomains", o.allowed) + list("deniedDomains", o.denied) +
		list("deniedResolvedAddresses", o.resolved) + "filesystem:\n" + list("denyRead", o.denyRead) +
		list("allowRead", o.allowRead) + list("allowWrite", o.allowWrite) + list("denyWrite", o.denyWrite)
}

// entryMatches reads an entry as the spec describes it. allow says that an
// entry without a port leaves port 25 out.
func entryMatches(entry, host string, port int, allow bool) bool {
	pattern, portText := entry, ""
	if i := strings.LastIndex(entry, ":"); i >= 0 && !strings.HasSuffix(entry, "]") {
		pattern, portText = entry[:i], entry[i+1:]
	}
	if portText == "" && allow && port == 25 || portText != "" && portText != strconv.Itoa(port) {
		return false
	}
	pattern = strings.Trim(pattern, "[]")
	addr, err := netip.ParseAddr(host)
	switch {
	case pattern == "*":
		return true
	case strings.HasPrefix(pattern, "*."):
		return err != nil && strings.HasSuffix(host, pattern[1:])
	case strings.Contains(pattern, "/"):
		return err == nil && netip.MustParsePrefix(pattern).Contains(addr)
	}
	return pattern == host
}

func anyEntry(list []string, host string, port int, allow bool) bool {
	for _, e := range list {
		if entryMatches(e, host, port, allow) {
			return true
		}
	}
	return false
}

// special knows only the addresses that the generator makes.
func oracleSpecial(a string) bool {
	return strings.HasPrefix(a, "10.") || strings.HasPrefix(a, "127.") || strings.HasPrefix(a, "fd")
}

func (o oracle) net(host string, port int) bool {
	return !anyEntry(o.denied, host, port, false) && anyEntry(o.allowed, host, port, true)
}

func (o oracle) resolvedTo(host string, port int, addr string) bool {
	if !o.net(host, port) || anyEntry(o.denied, addr, port, false) {
		return false
	}
	if anyEntry(o.allowed, addr, port, true) {
		return true
	}
	for _, r := range o.resolved {
		if entryMatches(r, addr, port, false) {
			return false
		}
	}
	return !oracleSpecial(addr)
}

func (o oracle) name(host string) bool {
	for port := 1; port <= 100; port++ { // beyond those that entries name
		if o.net(host, port) {
			return true
		}
	}
	return false
}

// start gives how far down the deepest cover of path by a list starts: the
// number of components, -1 for none.
func start(list []string, path string) int {
	deepest := -1
	parts := strings.Split(path, "/")
	for n := 1; n <= len(parts); n++ {
		prefix := strings.Join(parts[:n], "/")
		if prefix == "" {
			prefix = "/"
		}
		for _, p := range list {
			p = strings.TrimSuffix(p, "/**")
			if p == "" {
				p = "/"
			}
			if p == prefix || strings.ContainsAny(p, "*?[") && oracleGlob(p, prefix) {
				deepest = n
			}
		}
	}
	return deepest
}

// oracleGlob matches a whole path by trying everything.
func oracleGlob(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case strings.HasPrefix(p, "**/"):
		if oracleGlob(p[3:], s) {
			return true
		}
		for i := range s {
			if s[i] == '/' && oracleGlob(p[3:], s[i+1:]) {
				return true
			}
		}
		return false
	case p[0] == '*':
		return oracleGlob(p[1:], s) || s != "" && s[0] != '/' && oracleGlob(p, s[1:])
	case s == "":
		return false
	case p[0] == '?':
		return s[0] != '/' && oracleGlob(p[1:], s[1:])
	}
	return p[0] == s[0] && oracleGlob(p[1:], s[1:])
}

func (o oracle) read(path string) bool {
	no := start(o.denyRead, path)
	return no < 0 || start(o.allowRead, path) >= no
}

func (o oracle) write(path string) bool {
	return o.read(path) && start(o.denyWrite, path) < 0 && start(o.allowWrite, path) >= 0
}

type generator struct{ *rand.Rand }

func (g generator) of(words ...string) string { return words[g.IntN(len(words))] }

func (g generator) some(n int, make func() string) []string {
	list := []string{}
	for range g.IntN(n + 1) {
		list = append(list, make())
	}
	return list
}

func (g generator) host() string {
	name := g.of("a", "b") + "." + g.of("x", "y") + ".example"
	return strings.TrimPrefix(g.of("", "", "c.", "d.c.")+name, ".")
}

func (g generator) addr() string {
	return g.of("10.", "127.", "8.", "9.") + g.of("0", "1") + ".0." + g.of("1", "2")
}

func (g generator) entry(deny bool) string {
	port := g.of("", "", ":22", ":25", ":80")
	if deny && g.IntN(12) == 0 {
		return "*" + port
	}
	switch g.IntN(5) {
	case 0:
		return "*." + g.of("x.example", "a.x.example", "c.a.y.example") + port
	case 1:
		return g.addr() + port
	case 2:
		return g.of("10.0.0.0/8", "8.0.0.0/15", "9.1.0.0/24", "[2600::/16]", "127.0.0.0/8") + port
	case 3:
		return g.of("[2600::1]", "[fd00::1]") + port
	}
	return g.host() + port
}

func (g generator) path() string {
	p := ""
	for range g.IntN(5) + 1 {
		p += "/" + g.of("a", "b", "ab", "c")
	}
	return "/srv" + p
}

func (g generator) pattern() string {
	if g.IntN(2) == 0 {
		return g.path()
	}
	p := "/srv"
	for range g.IntN(3) + 1 {
		p += "/" + g.of("a", "b", "*", "a*", "?", "**/a", "**/b*", "?b")
	}
	return p + g.of("", "", "/**")
}

func (g generator) oracle() oracle {
	return oracle{
		allowed:   g.some(6, func() string { return g.entry(false) }),
		denied:    g.some(3, func() string { return g.entry(true) }),
		resolved:  g.some(2, func() string { return g.of("10.0.0.0/8", "8.0.0.0/16", "9.0.0.1", "[2600::/16]") }),
		denyRead:  g.some(4, g.pattern),
		allowRead: g.some(4, g.pattern), allowWrite: g.some(4, g.pattern), denyWrite: g.some(3, g.pattern),
	}
}

// cases is how often a random test tries.
func cases(many, few int) int {
	if testing.Short() {
		return few
	}
	return many
}

func TestDecisionsAgreeWithTheOracle(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(7, 11))}
	seen := map[string]int{}
	for range cases(100_000/72+1, 150) { // of 72 decisions
		o := g.oracle()
		p := mustPolicy(t, testEnv, o.yaml())
		check := func(what string, d Decision, want bool) {
			seen[fmt.Sprint(strings.Fields(what)[0], want)]++
			if d.Allowed() != want {
				t.Fatalf("%s: allowed=%v by %v, the oracle says %v, of\n%s", what, d.Allowed(), d.Rule, want, o.yaml())
			}
		}
		for range 12 {
			host, port := g.host(), []int{22, 25, 80, 443}[g.IntN(4)]
			addr := g.of(g.addr(), "2600::1", "fd00::1", "2600:1::1")
			req := NetRequest{Host{Name: host}, uint16(port)}
			lit := NetRequest{Host{Addr: netip.MustParseAddr(addr)}, uint16(port)}
			check(fmt.Sprintf("net %s:%d", host, port), p.DecideNet(req), o.net(host, port))
			check(fmt.Sprintf("literal %s:%d", addr, port), p.DecideNet(lit), o.net(addr, port))
			check(fmt.Sprintf("resolved %s:%d %s", host, port, addr), p.DecideResolved(req, lit.Host.Addr),
				o.resolvedTo(host, port, addr))
			check("name "+host, p.DecideName(req.Host), o.name(host))
			path := g.path()
			check("read "+path, p.DecideFile(event.FileRead, path), o.read(path))
			check("write "+path, p.DecideFile(event.FileWrite, path), o.write(path))
		}
	}
	for _, what := range []string{"net", "literal", "resolved", "name", "read", "write"} {
		for _, verdict := range []string{"true", "false"} {
			if seen[what+verdict] < 150 {
				t.Errorf("only %d cases of %s %s", seen[what+verdict], what, verdict)
			}
		}
	}
}
