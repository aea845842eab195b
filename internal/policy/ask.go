package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"golang.org/x/net/publicsuffix"

	"github.com/sallyport/sallyport/internal/event"
)

// The ways in which the user can be asked.
const (
	AskTTY     = "tty"
	AskSocket  = "socket"
	AskDesktop = "desktop"
)

var askWays = []string{AskTTY, AskSocket, AskDesktop}

// AskRules say whether and how the user is asked about what nothing forbids and
// nothing allows.
type AskRules struct {
	On      bool
	Via     []string      // of AskTTY, AskSocket, AskDesktop
	Timeout time.Duration // until silence is a refusal
}

// Authorizer is who decides outside what nothing forbids and nothing allows:
// exactly one of Exec, HTTP and Unix is set.
type Authorizer struct {
	Exec []string
	HTTP string // URL
	Unix string // path of a socket
	// Timeout bounds one decision; what comes later is a refusal.
	Timeout time.Duration
	// TTL and NegativeTTL are how long an allowance and a refusal are good for.
	TTL, NegativeTTL time.Duration
	Rule             Rule
}

const (
	defaultAskTimeout     = time.Minute
	defaultAuthTimeout    = 200 * time.Millisecond
	defaultAuthTTL        = time.Minute
	defaultAuthRefusalTTL = 10 * time.Second
)

// Ask gives the rules for asking the user.
func (p *Policy) Ask() AskRules {
	a := p.ask
	a.Via = slices.Clone(a.Via)
	return a
}

// Authorizer gives who decides outside, nil where nobody does.
func (p *Policy) Authorizer() *Authorizer {
	if p.authorizer == nil {
		return nil
	}
	a := *p.authorizer
	a.Exec = slices.Clone(a.Exec)
	return &a
}

// askKeys takes {via, timeout}.
func askKeys() shape {
	return object(map[string]shape{
		"via": func(w *walker, n ast.Node) {
			w.file.askVia = &[]string{}
			list(choice(func(f *File, s string, _ Rule) { *f.askVia = append(*f.askVia, s) }, askWays...))(w, n)
		},
		"timeout": length(func(f *File, d time.Duration) { f.askTimeout = &d }),
	})
}

// length takes a length of time and hands it on.
func length(set func(*File, time.Duration)) shape {
	return func(w *walker, n ast.Node) {
		before := len(w.errs)
		if duration(w, n); len(w.errs) == before {
			s, _ := w.text(n)
			d, _ := time.ParseDuration(s) // checked by duration
			set(w.file, d)
		}
	}
}

// authorizer takes {exec | http | unix, timeout, ttl, negativeTTL}.
func authorizer(w *walker, n ast.Node) {
	a := Authorizer{Timeout: defaultAuthTimeout, TTL: defaultAuthTTL, NegativeTTL: defaultAuthRefusalTTL, Rule: w.rule(n)}
	before := len(w.errs)
	object(map[string]shape{
		"exec": list(func(w *walker, n ast.Node) {
			if s, ok := w.text(n); ok {
				a.Exec = append(a.Exec, s)
			}
		}),
		"http": func(w *walker, n ast.Node) {
			a.HTTP, _ = w.text(n)
			if u, err := url.Parse(a.HTTP); a.HTTP != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
				w.fail(n, "write http://HOST:PORT/PATH or https://…", "%s is not the URL of a service", clip(a.HTTP))
			}
		},
		"unix": func(w *walker, n ast.Node) {
			if checked(checkPath)(w, n); len(w.errs) == before {
				a.Unix, _ = w.text(n)
			}
		},
		"timeout":     length(func(_ *File, d time.Duration) { a.Timeout = d }),
		"ttl":         length(func(_ *File, d time.Duration) { a.TTL = d }),
		"negativeTTL": length(func(_ *File, d time.Duration) { a.NegativeTTL = d }),
	})(w, n)
	if len(w.errs) > before {
		return
	}
	ways := 0
	for _, is := range []bool{len(a.Exec) > 0, a.HTTP != "", a.Unix != ""} {
		if is {
			ways++
		}
	}
	if ways != 1 {
		w.fail(n, "", "%s needs one of exec, http and unix", w.key())
		return
	}
	w.file.authorizer = &a
}

// flagAsk is --ask: every way, or those it names.
func (f *File) flagAsk(value string) error {
	f.askVia = &[]string{}
	for _, way := range strings.Split(value, ",") {
		if !slices.Contains(askWays, way) {
			return &hinted{clip(way) + " is no way to ask", "one of " + strings.Join(askWays, ", ")}
		}
		*f.askVia = append(*f.askVia, way)
	}
	return nil
}

func (m *merger) asking() {
	p := m.p
	p.ask = AskRules{Via: slices.Clone(askWays), Timeout: defaultAskTimeout}
	for _, f := range m.files {
		_, asks := f.keys["ask"]
		p.ask.On = p.ask.On || asks || f.askVia != nil
		if f.askVia != nil {
			p.ask.Via = *f.askVia
		}
	}
	if d, ok := last(m.files, func(f *File) *time.Duration { return f.askTimeout }); ok {
		p.ask.Timeout = d
	}
	if a, ok := last(m.files, func(f *File) *Authorizer { return f.authorizer }); ok {
		p.authorizer = &a
		if r, err := resolvePath(pathEntry{path: a.Unix, literal: true}, m.env.Cwd, m.env.Home); a.Unix != "" && err == nil {
			p.authorizer.Unix = r.Path
		}
	}
}

// asking shows how the user is asked.
func (l *liner) asking() {
	for _, key := range []string{"ask", "ask.via", "ask.timeout"} {
		l.shown[key] = true
	}
	if a := l.p.ask; a.On {
		_, source := l.given("ask")
		l.line(source, "ask: {via: [%s], timeout: %s}", strings.Join(a.Via, ", "), a.Timeout)
	}
}

// authorizer shows who decides outside, without a password.
func (l *liner) authorizer() {
	for _, key := range []string{"", ".exec", ".http", ".unix", ".timeout", ".ttl", ".negativeTTL"} {
		l.shown["network.authorizer"+key] = true
	}
	a := l.p.authorizer
	if a == nil {
		return
	}
	who := "unix: " + quote(a.Unix)
	if len(a.Exec) > 0 {
		var words []string
		for _, w := range a.Exec {
			words = append(words, quote(w))
		}
		who = "exec: [" + strings.Join(words, ", ") + "]"
	} else if u, err := url.Parse(a.HTTP); a.HTTP != "" && err == nil {
		who = "http: " + quote(u.Redacted())
	}
	l.line(a.Rule.String(), "  authorizer: {%s, timeout: %s, ttl: %s, negativeTTL: %s}", who, a.Timeout, a.TTL, a.NegativeTTL)
}

// DecideAsked decides the address that a host leads to which the policy left to
// the user, and the user allowed: granted is that answer.
func (p *Policy) DecideAsked(granted Decision, req NetRequest, addr netip.Addr) Decision {
	if d := p.DecideNet(req); !d.Allowed() && !d.Ask {
		return d
	}
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" || req.Host.IsAddr() && req.Host.Addr != addr {
		return denied(event.AddressDenied, builtin(ruleInvalid))
	}
	return p.all(p.hostViews, func(v *Policy) Decision {
		if d, ok := v.decideAddr(addr, req.Port); ok && !d.Allowed() {
			return d
		}
		return granted
	})
}

// HostRule is one entry as it stands in a list of hosts.
type HostRule struct {
	entry hostEntry
	allow bool
}

// ParseHostRule reads an entry of network.allowedDomains, or of deniedDomains.
func ParseHostRule(s string, allow bool) (HostRule, error) {
	kind := entryDeny
	if allow {
		kind = entryAllow
	}
	e, err := parseHostEntry(s, kind)
	return HostRule{e, allow}, err
}

func (r HostRule) String() string { return r.entry.canonical() }

// Matches reports whether the entry speaks of a host and port.
func (r HostRule) Matches(req NetRequest) bool {
	e := r.entry
	if e.port != req.Port && (e.port != 0 || r.allow && req.Port == portSMTP) {
		return false
	}
	switch e.kind {
	case hostName:
		return e.name == req.Host.Name
	case hostBelow:
		return strings.HasSuffix(req.Host.Name, "."+e.name)
	case hostPrefix:
		return req.Host.IsAddr() && e.prefix.Contains(req.Host.Addr)
	}
	return e.kind == hostAll
}

// Owner gives the shortest name above a host that one owner can have, such as
// example.co.uk; empty where there is none.
func Owner(h Host) string {
	if h.IsAddr() {
		return ""
	}
	name, err := publicsuffix.EffectiveTLDPlusOne(h.Name)
	if err != nil {
		return ""
	}
	return name
}

// Entries gives what could be written into network.allowedDomains to allow a
// request, the narrowest first.
func Entries(req NetRequest) []string {
	host := req.Host.String()
	if req.Host.IsAddr() && req.Host.Addr.Is6() {
		host = "[" + host + "]"
	}
	all := []string{fmt.Sprintf("%s:%d", host, req.Port)}
	for _, e := range []string{host, "*." + Owner(req.Host)} {
		if r, err := ParseHostRule(e, true); err == nil && r.Matches(req) {
			all = append(all, e)
		}
	}
	return all
}
