package policy

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// Wish is a denied attempt that somebody may want to allow.
type Wish struct {
	Op    event.Operation
	Host  string // of net.connect and net.dns: a name or an address
	Addr  string // what the name led to, where that was refused
	Port  uint16
	Path  string
	Count uint64
}

func (w Wish) String() string {
	switch {
	case w.Path != "":
		return w.Op.String() + " " + quote(w.Path)
	case w.Port != 0:
		return fmt.Sprintf("%s %s:%d", w.Op, quote(w.Host), w.Port)
	}
	return w.Op.String() + " " + quote(w.Host)
}

// Suggestion is a policy that, beside those there are, allows what was wished.
type Suggestion struct {
	Lines []Line // YAML; none where there is nothing to propose
	Left  []Line // wishes that it does not fulfil: Text, and why as Source
}

// suggestedKeys are those that a suggestion may add to, in the order shown.
var suggestedKeys = []string{keyAllowedDomains, "network.allowUnixSockets", "filesystem.allowRead", "filesystem.allowWrite"}

// Suggest makes a policy of wishes, which allows these and nothing else.
// Together says that three of a kind may become one entry for all of the kind:
// hosts of one domain, never a public suffix; files of one directory, never one
// that holds the home or the working directory or a place of secrets.
func (p *Policy) Suggest(wishes []Wish, together bool) Suggestion {
	s := suggester{p: p, entries: map[string]map[string]uint64{}}
	for _, w := range wishes {
		s.add(w)
	}
	if together {
		s.joinHosts()
		s.joinPaths("filesystem.allowRead")
		s.joinPaths("filesystem.allowWrite")
	}
	return Suggestion{s.lines(), s.left}
}

type suggester struct {
	p       *Policy
	entries map[string]map[string]uint64 // key -> entry -> attempts
	left    []Line
}

func (s *suggester) add(w Wish) {
	f, allowed := s.p.flip(w)
	switch {
	case allowed:
		return
	case f.Why != "":
		s.leave(w, f.Why)
		return
	case f.Careful != "":
		s.leave(w, f.Careful)
		return
	}
	for _, c := range f.Changes {
		if c.Add == "" || !slices.Contains(suggestedKeys, c.Key) {
			s.leave(w, c.String())
			return
		}
		if strings.HasPrefix(c.Key, "filesystem.") && s.p.broad(c.Add) {
			s.leave(w, "it holds more than should be opened at once")
			return
		}
	}
	for _, c := range f.Changes {
		if s.entries[c.Key] == nil {
			s.entries[c.Key] = map[string]uint64{}
		}
		s.entries[c.Key][c.Add] += max(w.Count, 1)
	}
}

func (s *suggester) leave(w Wish, why string) {
	l := Line{Text: w.String(), Source: why}
	if !slices.Contains(s.left, l) {
		s.left = append(s.left, l)
	}
}

// flip asks for what a wish needs.
func (p *Policy) flip(w Wish) (f Flip, allowed bool) {
	switch {
	case w.Op == event.NetConnect:
		return p.flipConnect(w)
	case w.Op == event.NetDNS:
		h, err := ParseHost(w.Host)
		if err != nil {
			return Flip{Why: err.Error()}, false
		}
		return p.FlipName(h), p.DecideName(h).Allowed()
	case w.Op == event.UnixConnect:
		return p.FlipUnix(w.Path), p.DecideUnix(w.Path).Allowed()
	case fileAccess[w.Op] != accessNone:
		return p.FlipFile(w.Op, w.Path), p.DecideFile(w.Op, w.Path).Allowed()
	}
	return Flip{Why: "no rule of a policy allows it"}, false
}

func (p *Policy) flipConnect(w Wish) (Flip, bool) {
	h, err := ParseHost(w.Host)
	if err != nil || w.Port == 0 {
		return Flip{Why: whyInvalid}, false
	}
	req := NetRequest{h, w.Port}
	d := p.DecideNet(req)
	if !d.Allowed() {
		return p.FlipNet(req), false
	}
	addr, err := netip.ParseAddr(w.Addr)
	if err != nil {
		return Flip{}, true
	}
	if d = p.DecideResolved(req, addr); d.Allowed() {
		return Flip{}, true
	}
	if f := p.FlipNet(NetRequest{Host{Addr: addr.Unmap()}, w.Port}); d.Reason == event.AddressDenied {
		return f, false
	}
	return Flip{Why: whyInvalid}, false
}

// broad reports whether a path holds what should not be opened by the way.
func (p *Policy) broad(dir string) bool {
	if within(p.env.Home, dir) || within(p.env.Cwd, dir) || p.secret(dir) {
		return true
	}
	return slices.ContainsFunc(p.secretRules(), func(r PathRule) bool { return within(fixedPart(r.Path), dir) })
}

const kind = 3 // so many make one

func (s *suggester) joinHosts() {
	hosts := s.entries[keyAllowedDomains]
	groups := map[string][]string{} // wildcard -> entries
	for entry := range hosts {
		e, err := parseHostEntry(entry, entryAllow)
		if err != nil || e.kind != hostName {
			continue
		}
		_, parent, _ := strings.Cut(e.name, ".")
		wide := hostEntry{kind: hostBelow, name: parent, port: e.port}
		if _, err := parseHostEntry(wide.canonical(), entryAllow); err == nil { // no public suffix
			groups[wide.canonical()] = append(groups[wide.canonical()], entry)
		}
	}
	join(hosts, groups)
}

func (s *suggester) joinPaths(key string) {
	groups := map[string][]string{}
	for entry := range s.entries[key] {
		if dir := path.Dir(entry); !s.p.broad(dir) && strings.Count(dir, "/") > 1 {
			groups[dir] = append(groups[dir], entry)
		}
	}
	join(s.entries[key], groups)
}

func join(entries map[string]uint64, groups map[string][]string) {
	for wide, list := range groups {
		if len(list) < kind {
			continue
		}
		for _, e := range list {
			entries[wide] += entries[e]
			delete(entries, e)
		}
	}
}

// lines writes the policy. A list of write roots replaces the default one, so
// it has to have what that gives.
func (s *suggester) lines() []Line {
	var out []Line
	section := ""
	for _, key := range suggestedKeys {
		if len(s.entries[key]) == 0 {
			continue
		}
		top, name, _ := strings.Cut(key, ".")
		if top != section {
			out = append(out, Line{Text: top + ":"})
			section = top
		}
		out = append(out, Line{Text: "  " + name + ":"})
		if key == "filesystem.allowWrite" {
			for _, r := range s.p.files.AllowWrite {
				if r.Rule == builtin(ruleWorkDir) {
					out = append(out, Line{Text: "    - .", Source: "writable already, as long as no list says otherwise"})
				}
			}
		}
		for _, e := range sortedKeys(s.entries[key]) {
			text := quote(e)
			if top == "filesystem" && isPattern(e) || key == "network.allowUnixSockets" && isPattern(e) {
				text = "{path: " + text + ", literal: true}"
			}
			out = append(out, Line{Text: "    - " + text, Source: fmt.Sprintf("%d×", s.entries[key][e])})
		}
	}
	return out
}

func sortedKeys(m map[string]uint64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
