package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Publish lets programs of the host reach a server in the sandbox.
type Publish struct {
	Host netip.AddrPort // where the host's programs find it: always its loopback
	Port uint16         // of the sandbox's loopback
	Rule Rule
}

// HostPort lets the sandbox reach a port of the host's loopback, under the same
// number.
type HostPort struct {
	Port uint16
	Rule Rule
}

// Publish gives the ports of the sandbox that the host may reach.
func (p *Policy) Publish() []Publish { return slices.Clone(p.publish) }

// HostPorts gives the ports of the host that the sandbox may reach.
func (p *Policy) HostPorts() []HostPort { return slices.Clone(p.hostPorts) }

// mergePorts unites what files open, as far as every ceiling that has such a list
// has it, too; taken is what they take away. A project that is not trusted opens
// none.
func mergePorts(files, ceilings []*File) (published []Publish, hosts []HostPort, taken []takenAway) {
	for _, f := range files {
		for _, r := range f.publish {
			same := func(o Publish) bool { return o.Host == r.Host && o.Port == r.Port }
			above := bound(ceilings, "publish", func(c *File) bool { return slices.ContainsFunc(c.publish, same) })
			switch {
			case above != nil:
				taken = append(taken, takenAway{fmt.Sprintf("publish: port %d at %s", r.Port, r.Host), r.Rule, above.keys["publish"]})
			case !slices.ContainsFunc(published, same):
				published = append(published, r)
			}
		}
		for _, r := range f.hostPorts {
			same := func(o HostPort) bool { return o.Port == r.Port }
			above := bound(ceilings, "hostPorts", func(c *File) bool { return slices.ContainsFunc(c.hostPorts, same) })
			switch {
			case above != nil:
				taken = append(taken, takenAway{fmt.Sprintf("hostPorts: port %d", r.Port), r.Rule, above.keys["hostPorts"]})
			case !slices.ContainsFunc(hosts, same):
				hosts = append(hosts, r)
			}
		}
	}
	return published, hosts, taken
}

// ownPort is taken in every sandbox: its resolver listens on every address.
const ownPort = 53

func hostPort(w *walker, n ast.Node) {
	integer(1, 65535, func(f *File, port int, rule Rule) {
		if port == ownPort {
			w.fail(n, "names need no rule: the sandbox has a resolver of its own", "hostPorts: port %d inside is the sandbox's resolver", port)
			return
		}
		f.hostPorts = append(f.hostPorts, HostPort{uint16(port), rule})
	})(w, n)
}

// publishEntry takes PORT, HOSTPORT:PORT and ADDRESS:HOSTPORT:PORT.
func publishEntry(w *walker, n ast.Node) {
	add := func(p Publish, err error) {
		if err != nil {
			w.fail(n, hintOf(err), "publish %v", err)
			return
		}
		p.Rule = w.rule(n)
		w.file.publish = append(w.file.publish, p)
	}
	number := integer(1, 65535, func(_ *File, port int, _ Rule) { add(parsePublish(strconv.Itoa(port))) })
	either(number, func(w *walker, n ast.Node) {
		if w.sketched(sketch{"type": "string", "pattern": publishedForm.text}) {
			return
		}
		if s, ok := w.text(n); ok {
			add(parsePublish(s))
		}
	})(w, n)
}

var publishedForm = pattern(`^(((\d{1,3}\.){3}\d{1,3}|\[[0-9a-fA-F:]+\]):)?(\d{1,5}:)?\d{1,5}$`)

func parsePublish(s string) (p Publish, err error) {
	const want = "wants PORT, HOSTPORT:PORT or ADDRESS:HOSTPORT:PORT"
	addr, rest := netip.AddrFrom4([4]byte{127, 0, 0, 1}), s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		if j := strings.LastIndexByte(s[:i], ':'); j >= 0 {
			host := strings.TrimSuffix(strings.TrimPrefix(s[:j], "["), "]")
			if addr, err = netip.ParseAddr(host); err != nil || addr.Is4() != (host == s[:j]) || addr.Is4In6() || addr.Zone() != "" {
				return p, fmt.Errorf("%s, not %s", want, clip(s))
			}
			rest = s[j+1:]
		}
	}
	if !addr.IsLoopback() {
		return p, &hinted{addr.String() + " is no loopback address: whoever reaches this host would reach the sandbox",
			"leave the address out, and publish further with a program of your own"}
	}
	outer, inner, both := strings.Cut(rest, ":")
	if !both {
		inner = outer
	}
	from, err := parsePort(outer)
	to, err2 := parsePort(inner)
	if err != nil || err2 != nil {
		return p, fmt.Errorf("%s, not %s", want, clip(s))
	}
	return Publish{Host: netip.AddrPortFrom(addr, from), Port: to}, nil
}
