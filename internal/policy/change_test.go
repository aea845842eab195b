package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// apply does to the oracle's lists what changes say. Added entries go into the
// lists by hand: every list is there.
func (o oracle) apply(t *testing.T, changes []Change) oracle {
	t.Helper()
	lists := map[string]*[]string{"network.allowedDomains": &o.allowed, "network.deniedDomains": &o.denied, "filesystem.denyRead": &o.denyRead,
		"filesystem.allowRead": &o.allowRead, "filesystem.allowWrite": &o.allowWrite, "filesystem.denyWrite": &o.denyWrite}
	for i, c := range changes {
		twice := slices.ContainsFunc(changes[:i], func(o Change) bool { return o.Key == c.Key && o.Remove == c.Remove })
		list := lists[c.Key]
		switch {
		case list == nil:
			t.Fatalf("a change that cannot be made: %s", c)
		case c.Add != "":
			*list = append(slices.Clone(*list), c.Add)
		default:
			before := len(*list)
			*list = slices.DeleteFunc(slices.Clone(*list), func(s string) bool {
				e, err := parseHostEntry(s, entryDeny)
				return trimGlob(s) == c.Remove || err == nil && e.canonical() == c.Remove
			})
			if len(*list) == before && !twice {
				t.Fatalf("%s: there is no such entry", c)
			}
		}
	}
	return o
}

func TestTheProposedChangeFlipsTheDecision(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 9))}
	for range cases(150, 50) {
		o := g.oracle()
		p := mustPolicy(t, testEnv, o.yaml())
		req := NetRequest{Host{Name: g.host()}, []uint16{22, 25, 80, 443}[g.IntN(4)]}
		if g.IntN(3) == 0 {
			req.Host = Host{Addr: netip.MustParseAddr(g.of(g.addr(), "2600::1", "fd00::1"))}
		}
		path := g.path()
		for _, c := range []struct {
			what   string
			decide func(*Policy) Decision
			flip   Flip
		}{
			{fmt.Sprint("net ", req), func(p *Policy) Decision { return p.DecideNet(req) }, p.FlipNet(req)},
			{"read " + path, func(p *Policy) Decision { return p.DecideFile(event.FileRead, path) }, p.FlipFile(event.FileRead, path)},
			{"write " + path, func(p *Policy) Decision { return p.DecideFile(event.FileWrite, path) }, p.FlipFile(event.FileWrite, path)},
		} {
			if c.flip.Why != "" || len(c.flip.Changes) == 0 {
				t.Fatalf("%s: %+v in\n%s", c.what, c.flip, o.yaml())
			}
			flipped := mustPolicy(t, testEnv, o.apply(t, c.flip.Changes).yaml())
			if c.decide(flipped).Allowed() == c.decide(p).Allowed() {
				t.Fatalf("%s: %v does not flip it in\n%s", c.what, c.flip.Changes, o.yaml())
			}
			for i, change := range c.flip.Changes { // and none of them is too many
				if change.Remove != "" && strings.Count(fmt.Sprint(c.flip.Changes), "take "+quote(change.Remove)+" out") > 1 {
					continue
				}
				less := slices.Delete(slices.Clone(c.flip.Changes), i, i+1)
				if c.decide(mustPolicy(t, testEnv, o.apply(t, less).yaml())).Allowed() != c.decide(p).Allowed() {
					t.Fatalf("%s: %v is more than is needed in\n%s", c.what, c.flip.Changes, o.yaml())
				}
			}
		}
	}
}

func TestWhatNoPolicyOpensHasNoChange(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem: {allowWrite: [/home/u]}`)
	for path, want := range map[string]string{
		"/home/u/.bashrc": whyName, "/home/u/.local/state/sallyport/x": whyOwn, "/usr/local/bin/sallyport": whyOwn} {
		if f := p.FlipFile(event.FileWrite, path); !strings.Contains(f.Why, want) || len(f.Changes) > 0 {
			t.Errorf("%s: %+v", path, f)
		}
	}
	if f := p.FlipFile(event.FileWrite, "/home/u/x/.git/config"); len(f.Changes) != 1 || f.Changes[0].String() != "filesystem.allowGitConfig: true" {
		t.Errorf("%+v", f)
	}
	if f := p.FlipFile(event.FileRead, "/home/u/.ssh/id"); f.Careful == "" || f.Changes[0].Add != "/home/u/.ssh/id" {
		t.Errorf("%+v", f)
	}
	bound := layered(t, "ceiling: {network: {allowedDomains: []}}", "own: {network: {allowedDomains: [a.example.com]}}")
	if f := bound.FlipNet(mustTarget("a.example.com:443")); !strings.Contains(f.Why, whyCeiling) {
		t.Errorf("%+v", f)
	}
	wait := layered(t, "project: {network: {allowedDomains: [a.example.com]}}")
	if f := wait.FlipNet(mustTarget("a.example.com:443")); len(f.Changes) != 1 || f.Changes[0].Trust == "" {
		t.Errorf("%+v", f)
	}
}

// suggested applies a suggestion beside the policy it was made for.
func suggested(t *testing.T, text string, s Suggestion) *Policy {
	t.Helper()
	texts := []string{text}
	if len(s.Lines) > 0 {
		var b strings.Builder
		for _, l := range s.Lines {
			b.WriteString(l.Text + "\n")
		}
		texts = append(texts, b.String())
	}
	return mustPolicy(t, testEnv, texts...)
}

func TestASuggestionAllowsExactlyTheRecordedSet(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(8, 2))}
	fulfilled := 0
	for range cases(60, 20) {
		o := g.oracle()
		o.denied, o.denyWrite = nil, nil // those have to be taken out: a suggestion only adds
		p := mustPolicy(t, testEnv, o.yaml())
		var wishes []Wish
		for range 4 {
			wishes = append(wishes, Wish{Op: event.NetConnect, Host: g.host(), Port: []uint16{22, 443}[g.IntN(2)]},
				Wish{Op: event.FileRead, Path: g.path()}, Wish{Op: event.FileWrite, Path: g.path()})
		}
		s := p.Suggest(wishes, false)
		if len(s.Left) > 0 {
			t.Fatalf("left: %v", s.Left)
		}
		after := suggested(t, o.yaml(), s)
		for range 200 {
			w := []Wish{{Op: event.NetConnect, Host: g.host(), Port: []uint16{22, 25, 80, 443}[g.IntN(4)]}, {Op: event.FileRead, Path: g.path()},
				{Op: event.FileWrite, Path: g.path()}}[g.IntN(3)]
			_, was := p.flip(w)
			_, is := after.flip(w)
			// What is readable again is writable where the policy said so before.
			if is && !was && !wished(wishes, w) && !(w.Op == event.FileWrite && start(o.allowWrite, w.Path) >= 0) {
				t.Fatalf("%s: before %v, after %v, of %v\n%s\n%v", w, was, is, wishes, o.yaml(), s.Lines)
			}
		}
		for _, w := range wishes {
			if _, is := after.flip(w); !is {
				t.Fatalf("%s is still denied: %v", w, s.Lines)
			}
			fulfilled++
		}
	}
	if fulfilled == 0 {
		t.Error("nothing was suggested")
	}
}

// wished reports whether an attempt was recorded: a path with what is below it,
// and a write to it lets it be read.
func wished(wishes []Wish, w Wish) bool {
	return slices.ContainsFunc(wishes, func(o Wish) bool {
		if w.Op == event.NetConnect {
			return o.Op == w.Op && o.Host == w.Host && o.Port == w.Port
		}
		return o.Path != "" && within(w.Path, o.Path) && (o.Op == w.Op || w.Op == event.FileRead)
	})
}

func TestASuggestionNeverOpensTooMuch(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem: {denyRead: [/srv, ~/.ssh, ~/.aws]}`)
	var wishes []Wish
	for i := range 9 {
		for _, host := range []string{"a%d.github.io", "b%d.co.uk", "c%d.example.com", "d%d.s3.amazonaws.com"} {
			wishes = append(wishes, Wish{Op: event.NetConnect, Host: fmt.Sprintf(host, i), Port: 443})
		}
		for _, path := range []string{"/home/u/.ssh/%d", "/home/u/.aws/%d", "/home/u/f%d", "/etc/f%d", "/srv/d/f%d"} {
			wishes = append(wishes, Wish{Op: event.FileRead, Path: fmt.Sprintf(path, i)}, Wish{Op: event.FileWrite, Path: fmt.Sprintf(path, i)})
		}
	}
	wishes = append(wishes, Wish{Op: event.FileWrite, Path: "/home/u"}, Wish{Op: event.FileWrite, Path: "/"}, Wish{Op: event.FileWrite, Path: "/home/u/.bashrc"},
		Wish{Op: event.NetConnect, Host: "169.254.169.254", Port: 80}, Wish{Op: event.UnixConnect, Path: "/home/u/.gnupg/S.gpg-agent"}, Wish{Op: event.SysRefused})
	for _, together := range []bool{false, true} {
		s := p.Suggest(wishes, together)
		after := suggested(t, `filesystem: {denyRead: [/srv, ~/.ssh, ~/.aws]}`, s)
		for _, target := range []string{"z.github.io:443", "z.co.uk:443", "z.s3.amazonaws.com:443", "169.254.169.254:80", "c1.example.com:80"} {
			if d := after.DecideNet(mustTarget(target)); d.Allowed() {
				t.Errorf("%s is opened by %s", target, d.Rule)
			}
		}
		for _, path := range []string{"/home/u/.ssh/1", "/home/u/.aws/1", "/home/u/.gnupg/x", "/home/u/z", "/etc/z", "/home/u/.bashrc"} {
			if after.DecideFile(event.FileWrite, path).Allowed() {
				t.Errorf("%s is opened", path)
			}
		}
		if d := after.DecideNet(mustTarget("z.example.com:443")); d.Allowed() != together {
			t.Errorf("together %v: %+v", together, d)
		}
		if d := after.DecideFile(event.FileWrite, "/srv/d/z"); d.Allowed() != together {
			t.Errorf("together %v: %+v", together, d)
		}
		if !after.DecideFile(event.FileWrite, "/home/u/proj/x").Allowed() {
			t.Error("the working directory is lost")
		}
		if len(s.Left) < 6 {
			t.Errorf("left: %v", s.Left)
		}
	}
}

func TestTheShownPolicyDecidesTheSame(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(4, 4))}
	for range cases(100, 30) {
		above, own := g.oracle(), g.oracle()
		p, err := makeLayered("ceiling: "+above.yaml(), "own: "+own.yaml())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, l := range p.Lines() {
			if !l.Dead {
				b.WriteString(l.Text + "\n")
			}
			if l.Source == "" && !strings.HasSuffix(l.Text, ":") {
				t.Errorf("%q has no source", l.Text)
			}
		}
		again := mustPolicy(t, testEnv, b.String())
		for range 20 {
			req := NetRequest{Host{Name: g.host()}, []uint16{22, 25, 80, 443}[g.IntN(4)]}
			if a, b := p.DecideNet(req), again.DecideNet(req); a.Allowed() != b.Allowed() {
				t.Fatalf("%v: %v, shown %v", req, a, b)
			}
			path := g.path()
			for _, op := range []event.Operation{event.FileRead, event.FileWrite} {
				// Patterns that overlap have no pattern in common: shown is what is surely allowed.
				if a, b := p.DecideFile(op, path), again.DecideFile(op, path); !a.Allowed() && b.Allowed() {
					t.Fatalf("%v %s: %v, shown %v", op, path, a, b)
				}
			}
		}
	}
}
