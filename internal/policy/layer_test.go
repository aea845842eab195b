package policy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// layered makes a policy of texts that each begin with the name of a layer.
func layered(t *testing.T, texts ...string) *Policy {
	t.Helper()
	p, err := makeLayered(texts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func makeLayered(texts ...string) (*Policy, error) {
	var sources []Source
	for _, text := range texts {
		name, data, _ := strings.Cut(text, ": ")
		s := Source{Name: name + ".yaml", Data: []byte(data)}
		if err := s.Layer.UnmarshalText([]byte(name)); err != nil {
			return nil, err
		}
		if s.Layer.ofProject() {
			s.Name, s.Dir = "/home/u/proj/.sallyport.yaml", "/home/u/proj"
		}
		sources = append(sources, s)
	}
	return Make(testEnv, sources, nil)
}

func TestACeilingBoundsWhatIsBelow(t *testing.T) {
	p := layered(t,
		`ceiling: {network: {allowedDomains: ["*.example.com", 10.0.0.0/8], deniedDomains: [no.example.com], deniedResolvedAddresses: [203.0.114.0/24]},
		  filesystem: {denyRead: [/srv, ~/.ssh], allowRead: [/srv/pub], allowWrite: [/home/u, /srv], denyWrite: [/home/u/proj/keep]}}`,
		`own: {network: {allowedDomains: [a.example.com, no.example.com, b.example.org, 10.1.2.3, 203.0.114.9]},
		  filesystem: {denyRead: [], allowRead: [/srv, ~/.ssh], allowWrite: [/home/u/proj, /srv/pub, /opt]}}`)
	for target, want := range map[string]string{
		"a.example.com:443": "allow own.yaml:1", "no.example.com:443": "deny ceiling.yaml:1", "b.example.org:443": "deny ceiling.yaml:1",
		"c.example.com:443": "deny builtin:default-deny", "10.1.2.3:80": "allow own.yaml:1", "10.1.2.4:80": "deny builtin:address-private",
		"203.0.114.9:443": "deny ceiling.yaml:1",
	} {
		d := p.DecideNet(mustTarget(target))
		if d.Verdict.String()+" "+d.Rule.String() != want {
			t.Errorf("%s: %v %v, want %s", target, d.Verdict, d.Rule, want)
		}
		if d.Rule.File == "ceiling.yaml" && (d.Fix != "" || d.Ask || d.Text == "") {
			t.Errorf("%s: a way past the ceiling is proposed: %+v", target, d)
		}
	}
	checkFiles(t, p, `
		read  /srv/x              deny  ceiling.yaml:2
		read  /srv/pub/x          allow builtin:read-default
		read  /home/u/.ssh/id     deny  ceiling.yaml:2
		write /home/u/proj/x      allow own.yaml:2
		write /home/u/proj/keep/x deny  ceiling.yaml:2
		write /srv/pub/x          allow own.yaml:2
		write /opt/x              deny  ceiling.yaml:2
		write /home/u/x           deny  builtin:read-only`)
}

func TestWhatACeilingSaysNothingOfIsTheUsers(t *testing.T) {
	p := layered(t, `ceiling: {filesystem: {denyRead: [/srv]}}`,
		`own: {network: {allowedDomains: [a.example.com, 169.254.169.254, "a.example.com:25"], rules: [{host: a.example.com, noSNI: allow}],
		  allowUnixSockets: [/run/x.sock]}, filesystem: {allowWrite: [/opt]}}`)
	for _, target := range []string{"a.example.com:443", "a.example.com:25", "169.254.169.254:80"} {
		if d := p.DecideNet(mustTarget(target)); !d.Allowed() {
			t.Errorf("%s: %+v", target, d)
		}
	}
	req := mustTarget("a.example.com:443")
	if d := p.DecideResolved(req, netip.MustParseAddr("169.254.169.254")); !d.Allowed() {
		t.Errorf("a name that leads to what is open: %+v", d)
	}
	if _, ok := p.AllowNoSNI(req); !ok || !p.DecideUnix("/run/x.sock").Allowed() || len(p.Unix().Sockets) != 1 {
		t.Error("rules that the ceiling does not speak of are lost")
	}
	checkFiles(t, p, "write /opt/x allow own.yaml:2")
	if f := p.Files(); len(f.AllowWrite) != 1 || len(f.Protected) == 0 {
		t.Errorf("%+v", f)
	}
}

func TestACeilingForbidsWhatItSaysFalseTo(t *testing.T) {
	p := layered(t, `ceiling: {network: {allowAllUnixSockets: false, allowLocalBinding: false, strictAllowlist: true}, filesystem: {disabled: false, allowGitConfig: false},
		  env: {pass: [GOFLAGS], unset: [EVIL]}, require: {tier: trace}, mandatoryDenySearchDepth: 6}`,
		`own: {network: {allowAllUnixSockets: true, allowLocalBinding: true, allowUnixSockets: [/run/a.sock]}, filesystem: {disabled: true, allowGitConfig: true},
		  env: {pass: [GO*], set: {EVIL: x}}, require: {tier: rootless}, mandatoryDenySearchDepth: 1}`)
	if p.Unix().All || p.DecideUnix("/run/b.sock").Allowed() || !p.DecideUnix("/run/a.sock").Allowed() {
		t.Errorf("sockets: %+v", p.Unix())
	}
	if p.Mac().LocalBinding || p.Mac().AllUnixSockets {
		t.Errorf("%+v", p.Mac())
	}
	if f := p.Files(); f.Disabled || f.ScanDepth != 6 {
		t.Errorf("%+v", f)
	}
	checkFiles(t, p, "write /home/u/proj/.git/config deny builtin:protected:.git/config\nread /home/u/.ssh/x deny builtin:secrets:~/.ssh")
	if p.Require().Tier != event.TierTrace || !p.strict {
		t.Errorf("%+v", p.Require())
	}
	env, withheld := p.Env().Apply([]string{"PATH=/bin", "GOFLAGS=-v", "GOPATH=/x", "EVIL=1"})
	if !slices.Equal(env, []string{"PATH=/bin", "GOFLAGS=-v"}) || !slices.Equal(withheld, []string{"GOPATH", "EVIL"}) {
		t.Errorf("%v, withheld %v", env, withheld)
	}
}

func TestAnUntrustedProjectOnlyNarrows(t *testing.T) {
	const own = `own: {network: {allowedDomains: [a.example.com, b.example.com]}, env: {pass: [A, B]}}`
	const project = `{network: {allowedDomains: [c.example.com], deniedDomains: [b.example.com]},
		filesystem: {allowWrite: [build], allowRead: [~/.ssh], denyRead: [private]}, env: {pass: [C], set: {LD_PRELOAD: ./x.so}, unset: [B]}, publish: [3000]}`
	p := layered(t, own, "project: "+project)
	name := "/home/u/proj/.sallyport.yaml"
	for target, want := range map[string]string{
		"a.example.com:443": "allow own.yaml:1", "b.example.com:443": "deny " + name + ":1", "c.example.com:443": "deny builtin:default-deny"} {
		if d := p.DecideNet(mustTarget(target)); d.Verdict.String()+" "+d.Rule.String() != want {
			t.Errorf("%s: %v %v, want %s", target, d.Verdict, d.Rule, want)
		}
	}
	if d := p.DecideNet(mustTarget("c.example.com:443")); !strings.Contains(d.Fix, "policy trust "+name) {
		t.Errorf("trust is not proposed: %+v", d)
	}
	checkFiles(t, p, `
		read  /home/u/proj/private/x deny  `+name+`:2
		read  /home/u/.ssh/id        deny  builtin:secrets:~/.ssh
		write /home/u/proj/build/x   allow builtin:working-directory
		write /home/u/proj/x         deny  `+name+`:2`)
	env, _ := p.Env().Apply([]string{"A=1", "B=2", "C=3"})
	if !slices.Equal(env, []string{"A=1"}) {
		t.Errorf("environment %v", env)
	}
	if len(p.Unbuilt()) != 0 {
		t.Errorf("what does not count is %+v", p.Unbuilt())
	}
	var notes []string
	for _, w := range p.Warnings() {
		if strings.Contains(w.Message, "not trusted") {
			notes = append(notes, strings.Fields(w.Message)[0]+strings.Fields(w.Message)[1])
		}
	}
	if len(notes) != 6 {
		t.Errorf("said to be ignored: %v", notes)
	}

	p = layered(t, own, "trusted: "+project)
	if !p.DecideNet(mustTarget("c.example.com:443")).Allowed() || !p.DecideNet(mustTarget("a.example.com:443")).Allowed() {
		t.Error("trusted, it does not unite with the user's")
	}
	checkFiles(t, p, `
		read  /home/u/.ssh/id        allow `+name+`:2
		read  /home/u/.gnupg/x       deny  builtin:secrets:~/.gnupg
		read  /home/u/proj/.sallyport.yaml allow builtin:read-default
		write /home/u/proj/.sallyport.yaml deny builtin:own-policy`)
	if env, _ := p.Env().Apply(nil); !slices.Equal(env, []string{"LD_PRELOAD=./x.so"}) {
		t.Errorf("environment %v", env)
	}
}

func TestANearerFileCannotHideWhatItsParentNarrows(t *testing.T) {
	p := layered(t, `own: {network: {allowedDomains: [a.example.com]}}`,
		`project: {network: {strictAllowlist: true, deniedDomains: [a.example.com]}, require: {tier: trace}}`,
		`project: {network: {strictAllowlist: false, deniedDomains: []}, require: {tier: rootless}}`)
	if p.DecideNet(mustTarget("a.example.com:443")).Allowed() || !p.strict || p.Require().Tier != event.TierTrace {
		t.Error("hidden")
	}
}

func TestKeysThatActOutsideHaveNoPlaceInAProject(t *testing.T) {
	for key, text := range map[string]string{
		"ask.via": `ask: {via: [tty]}`, "network.authorizer": `network: {authorizer: {exec: [x]}}`, "git.credential": `git: [{repo: x, credential: {helper: true}}]`,
		"network.mitmProxy": `network: {mitmProxy: {socketPath: /x, domains: [a.b]}}`, "network.parentProxy": `network: {parentProxy: {http: "http://a.b:1"}}`,
		"network.httpProxyPort": `network: {httpProxyPort: 1}`, "network.socksProxyPort": `network: {socksProxyPort: 1}`,
		"network.tlsTerminate": `network: {tlsTerminate: {}}`, "bwrapPath": `bwrapPath: /x`, "socatPath": `socatPath: /x`, "ripgrep": `ripgrep: {command: x}`,
		"audit": `audit: {log: /x}`, "mode": `mode: audit`, "seccomp": `seccomp: {applyPath: /x}`, "javaAgentJarPath": `javaAgentJarPath: /x`,
	} {
		for _, layer := range []Layer{LayerProject, LayerTrusted} {
			_, err := Parse(Source{Name: "p", Data: []byte(text), Layer: layer})
			if err == nil || !strings.Contains(err.Error(), key+" has no place") {
				t.Errorf("%s, %s: %v", key, layer, err)
			}
		}
		if _, err := Parse(Source{Name: "p", Data: []byte(text)}); err != nil {
			t.Errorf("%s in the user's own: %v", key, err)
		}
	}
	_, err := Parse(Source{Name: "p", Data: []byte("env: {set: {A: b}}"), Layer: LayerCeiling})
	if err == nil || !strings.Contains(err.Error(), "env.set has no place in an administrator's policy") {
		t.Errorf("a ceiling that sets: %v", err)
	}
	_, err = Parse(Source{Name: "p", Data: []byte("env: {set: {A: [x]}}"), Layer: LayerProject})
	if err == nil {
		t.Error("what is ignored is not read strictly")
	}
}

func TestATemplateIsAFlag(t *testing.T) {
	p, err := Make(testEnv, nil, Flags{{FlagTemplate, "code"}, {FlagAllowDomain, "a.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	d := p.DecideNet(mustTarget("registry.npmjs.org:443"))
	if !d.Allowed() || d.Rule.File != "template:code" || d.Rule.Line < 5 || !p.DecideNet(mustTarget("a.example.com:443")).Allowed() {
		t.Errorf("%+v", d)
	}
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("the template has warnings: %+v", w)
	}
	checkFiles(t, p, "write /home/u/proj/x allow template:code:"+lineOf(t, "code", "- .")+"\nread /home/u/.npmrc allow template:code:"+lineOf(t, "code", "- ~/.npmrc")+"\nread /home/u/.ssh/id deny builtin:secrets:~/.ssh")
	p, err = Make(testEnv, nil, Flags{{FlagTemplate, "offline"}, {FlagTemplate, "code"}})
	if err != nil || p.DecideNet(mustTarget("registry.npmjs.org:443")).Allowed() {
		t.Errorf("offline is not: %v", err)
	}
	if _, err := Make(testEnv, nil, Flags{{FlagTemplate, "cod"}}); err == nil || !strings.Contains(err.Error(), "no template") {
		t.Errorf("an unknown one: %v", err)
	}
}

func lineOf(t *testing.T, template, text string) string {
	t.Helper()
	b, err := TemplateText(template)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.TrimSpace(line) == text {
			return strconv.Itoa(i + 1)
		}
	}
	t.Fatalf("no line %s", text)
	return ""
}

// A ceiling's own reading, and of an untrusted file, says what may be allowed:
// no layer below goes beyond it, and what none of them forbids stays.
func TestALowerLayerNeverWidensACeiling(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 5))}
	seen := map[string]int{}
	for range cases(300, 60) {
		above, below, project := g.oracle(), g.oracle(), g.oracle()
		p, err := makeLayered("ceiling: "+above.yaml(), "own: "+below.yaml(), "project: "+project.yaml())
		if err != nil {
			t.Fatal(err)
		}
		with := project.with(below)
		lists := p.Files()
		for range 20 {
			host, port := g.host(), []int{22, 25, 80, 443}[g.IntN(4)]
			addr := g.of(g.addr(), "2600::1", "fd00::1", "2600:1::1")
			path := g.path()
			req := NetRequest{Host{Name: host}, uint16(port)}
			for _, c := range []struct {
				what string
				got  bool
				want func(oracle) bool
			}{
				{"net", p.DecideNet(req).Allowed(), func(o oracle) bool { return o.net(host, port) }},
				{"resolved", p.DecideResolved(req, netip.MustParseAddr(addr)).Allowed(), func(o oracle) bool { return o.resolvedTo(host, port, addr) }},
				{"name", p.DecideName(req.Host).Allowed(), func(o oracle) bool { return o.name(host) }},
				{"read", p.DecideFile(event.FileRead, path).Allowed(), func(o oracle) bool { return o.read(path) }},
				{"write", p.DecideFile(event.FileWrite, path).Allowed(), func(o oracle) bool { return o.write(path) }},
			} {
				want := c.want(above) && c.want(below) && c.want(with)
				if c.got != want {
					t.Fatalf("%s %s:%d %s %s: %v; ceiling %v, below %v, with the project %v\nceiling: %s\nown: %s\nproject: %s", c.what, host, port, addr, path,
						c.got, c.want(above), c.want(below), c.want(with), above.yaml(), below.yaml(), project.yaml())
				}
				seen[c.what+map[bool]string{true: "+", false: "-"}[c.got]]++
			}
			// A boundary made of the lists alone allows no more.
			list := oracle{denyRead: paths(lists.DenyRead), allowRead: paths(lists.AllowRead), allowWrite: paths(lists.AllowWrite), denyWrite: paths(lists.DenyWrite)}
			if list.read(path) && !p.DecideFile(event.FileRead, path).Allowed() || list.write(path) && !p.DecideFile(event.FileWrite, path).Allowed() {
				t.Fatalf("%s: the lists allow more than is decided\nceiling: %s\nown: %s\nproject: %s", path, above.yaml(), below.yaml(), project.yaml())
			}
		}
	}
	for _, what := range []string{"net", "resolved", "name", "read", "write"} {
		if seen[what+"+"] < 5 || seen[what+"-"] < 5 {
			t.Errorf("%s: %d allowed, %d denied", what, seen[what+"+"], seen[what+"-"])
		}
	}
}

func paths(rules []PathRule) []string {
	list := []string{}
	for _, r := range rules {
		list = append(list, r.Path)
	}
	return list
}

// with gives the oracle of two files of which neither ceils the other.
func (o oracle) with(other oracle) oracle {
	return oracle{slices.Concat(o.allowed, other.allowed), slices.Concat(o.denied, other.denied), slices.Concat(o.resolved, other.resolved),
		slices.Concat(o.denyRead, other.denyRead), slices.Concat(o.allowRead, other.allowRead), slices.Concat(o.allowWrite, other.allowWrite),
		slices.Concat(o.denyWrite, other.denyWrite)}
}
