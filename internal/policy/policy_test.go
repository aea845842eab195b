package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestFilesUniteAndDenialWins(t *testing.T) {
	p := mustPolicy(t, testEnv,
		`{network: {allowedDomains: [a.example.com], deniedDomainReasons: {c.example.com: one}, strictAllowlist: true}, filesystem: {allowWrite: [/a]}, mandatoryDenySearchDepth: 2}`,
		`{network: {allowedDomains: [b.example.com, c.example.com], deniedDomains: [c.example.com]}, filesystem: {allowWrite: [/b], denyWrite: [/a/no]}, mandatoryDenySearchDepth: 4}`)
	for target, want := range map[string]string{
		"a.example.com:443": "allow p0.yaml:1", "b.example.com:443": "allow p1.yaml:1", "c.example.com:443": "deny p1.yaml:1"} {
		if d := p.DecideNet(mustTarget(target)); d.Verdict.String()+" "+d.Rule.String() != want {
			t.Errorf("%s: %v %v, want %s", target, d.Verdict, d.Rule, want)
		}
	}
	if d := p.DecideNet(mustTarget("c.example.com:443")); d.Text != "one" {
		t.Errorf("the other file's reason is %q", d.Text)
	}
	checkFiles(t, p, `
		write /a/x           allow p0.yaml:1
		write /b/x           allow p1.yaml:1
		write /a/no/x        deny  p1.yaml:1
		write /home/u/proj/x deny  builtin:read-only
		read  /home/u/.ssh   deny  builtin:secrets:~/.ssh`)
	if n := p.Files().ScanDepth; n != 4 {
		t.Errorf("scan depth %d: the later file counts", n)
	}
}

func mustTarget(s string) NetRequest {
	req, err := ParseNetTarget(s)
	if err != nil {
		panic(err)
	}
	return req
}

func TestAPresentListReplacesTheDefault(t *testing.T) {
	checkFiles(t, mustPolicy(t, testEnv, `filesystem: {denyRead: [], allowWrite: []}`), `
		read  /home/u/.ssh/id  allow builtin:read-default
		write /home/u/proj/x   deny  builtin:read-only`)
	checkFiles(t, mustPolicy(t, testEnv, `filesystem: {}`), `
		read  /home/u/.ssh/id  deny  builtin:secrets:~/.ssh
		write /home/u/proj/x   allow builtin:working-directory`)
}

func TestFlagsAddToWhatThereIs(t *testing.T) {
	flags := FromFlags(Flags{{FlagAllowDomain, "b.example.com:8443"}, {FlagAllowWrite, "~/out"}, {FlagDenyRead, "/srv/*.pem"}})
	p, err := New(testEnv, flags)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		op   event.Operation
		path string
		rule string
	}{{event.FileRead, "/home/u/.ssh/id", "builtin:secrets:~/.ssh"}, {event.FileRead, "/srv/a.pem", "command line:3"},
		{event.FileWrite, "/home/u/proj/x", "builtin:working-directory"}, {event.FileWrite, "/home/u/out/x", "command line:2"}} {
		if d := p.DecideFile(c.op, c.path); d.Rule.String() != c.rule {
			t.Errorf("%v %s: %v, want %s", c.op, c.path, d.Rule, c.rule)
		}
	}
	if d := p.DecideNet(mustTarget("b.example.com:8443")); !d.Allowed() || d.Rule.String() != "command line:1" {
		t.Errorf("%+v", d)
	}
	file, _ := Parse(Source{Name: "p.yaml", Data: []byte(`filesystem: {allowWrite: [/a]}`)})
	p, err = New(testEnv, file, flags)
	if err != nil || p.DecideFile(event.FileWrite, "/home/u/proj/x").Allowed() || !p.DecideFile(event.FileWrite, "/a/x").Allowed() {
		t.Errorf("flags beside a file: %v", err)
	}
}

func TestNewReportsEveryBadFlag(t *testing.T) {
	_, err := New(testEnv, FromFlags(Flags{{FlagAllowDomain, "*.com"}, {FlagAllowDomain, "ok.com"},
		{FlagAllowWrite, ""}, {FlagDenyRead, "~bob"}, {"--nonsense", "x"}, {FlagAllowWrite, "*/../x"}}))
	var es Errors
	if !errors.As(err, &es) {
		t.Fatalf("got %v", err)
	}
	var lines []int
	for _, e := range es {
		lines = append(lines, e.Line)
	}
	if !slices.Equal(lines, []int{1, 3, 4, 5, 6}) {
		t.Errorf("problems at %v:\n%v", lines, err)
	}
}

func TestNewWantsAbsoluteDirectories(t *testing.T) {
	for _, change := range []func(*Env){
		func(e *Env) { e.Home = "" }, func(e *Env) { e.Cwd = "x" }, func(e *Env) { e.StateDir = "/a/../b" },
		func(e *Env) { e.Exe = "sallyport" }} {
		env := testEnv
		change(&env)
		if p, err := New(env); err == nil || p != nil {
			t.Errorf("%+v is taken", env)
		}
	}
}

func TestRelativePathsStartAtTheSourcesDirectory(t *testing.T) {
	f, err := Parse(Source{Name: "/proj/.sallyport.yaml", Dir: "/proj", Data: []byte(`filesystem: {denyRead: [x], allowWrite: ["../y"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(testEnv, f)
	if err != nil {
		t.Fatal(err)
	}
	if p.DecideFile(event.FileRead, "/proj/x").Allowed() || !p.DecideFile(event.FileWrite, "/y/z").Allowed() {
		t.Errorf("%+v", p.Files())
	}
}

func TestRequireTakesTheStricter(t *testing.T) {
	p := mustPolicy(t, testEnv, `require: {tier: lsm}`, `require: {tier: rootless, audit: true}`, `require: {audit: false}`)
	r := p.Require()
	if r.Tier != event.TierLSM || !r.Audit || r.TierRule.String() != "p0.yaml:1" || r.AuditRule.String() != "p1.yaml:1" {
		t.Errorf("%+v", r)
	}
	if r := mustPolicy(t, testEnv).Require(); r != (Require{}) {
		t.Errorf("without a policy: %+v", r)
	}
}

func TestSHA256NamesTheBytes(t *testing.T) {
	a, b := `filesystem: {denyRead: [/a]}`, `filesystem: {denyRead: [/b]}`
	sums := map[string]bool{}
	for _, texts := range [][]string{{}, {a}, {b}, {a, b}, {b, a}} {
		sum := mustPolicy(t, testEnv, texts...).SHA256()
		if len(sum) != 64 || sum != mustPolicy(t, testEnv, texts...).SHA256() {
			t.Errorf("%q is not stable", sum)
		}
		sums[sum] = true
	}
	withFlag, _ := New(testEnv, FromFlags(Flags{{FlagDenyRead, "/a"}}))
	sums[withFlag.SHA256()] = true
	if len(sums) != 6 {
		t.Errorf("%d sums of 6 policies", len(sums))
	}
}

func TestEnvironment(t *testing.T) {
	p := mustPolicy(t, testEnv, `env: {pass: [GOPATH, "NPM_*", MY_TOKEN], set: {A: b, HOME: /h}, unset: [CI, "LC_*"]}`)
	env, withheld := p.Env().Apply([]string{"PATH=/bin", "HOME=/home/u", "GOPATH=/go", "NPM_X=1", "NPM_TOKEN=s",
		"NPM_CONFIG__AUTH=s", "MY_TOKEN=t", "CI=1", "LC_ALL=C", "LANG=C", "SSH_AUTH_SOCK=/x", "AWS_SECRET_ACCESS_KEY=s",
		"DBUS_SESSION_BUS_ADDRESS=x", "LD_PRELOAD=x", "BASH_FUNC_x%%=() { :; }", "nonsense"})
	if got, want := strings.Join(env, " "), "PATH=/bin GOPATH=/go NPM_X=1 MY_TOKEN=t LANG=C A=b HOME=/h"; got != want {
		t.Errorf("environment\n%s, want\n%s", got, want)
	}
	if got := strings.Join(withheld, " "); got != "NPM_TOKEN NPM_CONFIG__AUTH" {
		t.Errorf("withheld %s", got)
	}
	for _, name := range defaultPass() {
		if secretName(name) {
			t.Errorf("%s is passed by default and looks like a secret", name)
		}
	}
}

func TestUnbuiltKeysSayWhetherARunIsRefused(t *testing.T) {
	for _, c := range []struct {
		text   string
		key    string
		refuse bool
	}{
		{`network: {parentProxy: {http: "http://p:1"}}`, "", false},
		{`network: {mitmProxy: {socketPath: /x, domains: [a.b]}}`, "network.mitmProxy", true},
		{`network: {tlsTerminate: {}}`, "network.tlsTerminate", true},
		{`network: {requireHostMatch: true}`, "network.requireHostMatch", true},
		{`network: {requireHostMatch: false}`, "", false},
		{`network: {refuseOpaqueTunnels: true}`, "network.refuseOpaqueTunnels", true},
		{`network: {httpProxyPort: 1}`, "network.httpProxyPort", true},
		{`network: {socksProxyPort: 1}`, "network.socksProxyPort", true},
		{`network: {allowUnixSockets: [/x]}`, "", false},
		{`network: {allowAllUnixSockets: true}`, "", false},
		{`network: {allowLocalBinding: true}`, "network.allowLocalBinding", false},
		{`network: {rules: [{host: a.b, method: GET}]}`, "network.rules.method", true},
		{`network: {rules: [{host: a.b, noSNI: allow}]}`, "", false},
		{`network: {ambiguousRequestTarget: refuse}`, "", false},
		{`network: {ambiguousRequestTarget: normalize}`, "network.ambiguousRequestTarget", false},
		{`credentials: {files: [{path: x, mode: deny}], envVars: [{name: A, mode: deny}]}`, "", false},
		{`credentials: {files: [{path: x, mode: mask}]}`, "credentials.files.mask", true},
		{`credentials: {envVars: [{name: A, mode: mask}]}`, "credentials.envVars.mask", true},
		{`credentials: {files: []}`, "", false},
		{`git: [{repo: a}]`, "git", true},
		{`git: []`, "", false},
		{`git: {safeDirectories: [x]}`, "", false},
		{`ignoreViolations: {"*": [x]}`, "", false},
		{`mode: audit`, "mode", true},
		{`mode: enforce`, "", false},
		{`ripgrep: {command: rg}`, "ripgrep", false},
		{`windows: {}`, "windows", false},
		{`enableWeakerNestedSandbox: true`, "enableWeakerNestedSandbox", false},
	} {
		u := mustPolicy(t, testEnv, "# one\n"+c.text).Unbuilt()
		if c.key == "" {
			if len(u) != 0 {
				t.Errorf("%s: %+v", c.text, u)
			}
			continue
		}
		if len(u) != 1 || u[0].Key != c.key || u[0].Refuse != c.refuse || u[0].Note == "" || u[0].Rule.String() != "p0.yaml:2" {
			t.Errorf("%s: %+v", c.text, u)
		}
	}
}

func TestEveryKeyIsBuiltOrListed(t *testing.T) {
	built := []string{"network", "network.allowedDomains", "network.deniedDomains", "network.deniedDomainReasons",
		"network.strictAllowlist", "network.deniedResolvedAddresses", "network.rules", "network.rules.host",
		"network.rules.port", "network.rules.noSNI", "network.rules.upgrade",
		"network.parentProxy", "network.parentProxy.http", "network.parentProxy.https", "network.parentProxy.noProxy",
		"network.parentProxy.byHostname", "network.allowUnixSockets", "network.allowAllUnixSockets", "filesystem", "filesystem.disabled", "filesystem.denyRead",
		"filesystem.allowRead", "filesystem.allowWrite", "filesystem.denyWrite", "filesystem.allowGitConfig",
		"mandatoryDenySearchDepth", "require", "require.tier", "require.audit", "audit", "audit.log", "audit.otlp", "audit.syslog", "audit.textfile",
		"env", "env.pass", "env.set", "env.unset",
		"ask", "ask.via", "ask.timeout", "network.authorizer", "network.authorizer.exec", "network.authorizer.http",
		"ignoreViolations", "publish", "hostPorts", "limits", "limits.memory", "limits.pids", "limits.cpu", "limits.time",
		"network.authorizer.unix", "network.authorizer.timeout", "network.authorizer.ttl", "network.authorizer.negativeTTL"}
	covered := func(key string) bool {
		for k := key; k != ""; k = k[:max(0, strings.LastIndexByte(k, '.'))] {
			if _, ok := unbuiltKeys[k]; ok || slices.Contains(built, k) && k == key {
				return true
			}
		}
		for k := range unbuiltKeys { // a mapping whose parts are listed
			if strings.HasPrefix(k, key+".") || k == key+"[]" {
				return true
			}
		}
		// Parts of a mapping that is listed by its other parts change nothing alone.
		return strings.HasPrefix(key, "credentials.files.") || strings.HasPrefix(key, "credentials.envVars.") || strings.HasPrefix(key, "git.")
	}
	for _, text := range everyKey {
		f, err := Parse(Source{Name: "p.yaml", Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		for key := range f.keys {
			if !covered(key) && !strings.HasSuffix(key, ".literal") && !strings.HasSuffix(key, ".path") {
				t.Errorf("%s is neither built nor listed as unbuilt", key)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"every unix socket", `network: {allowAllUnixSockets: true}`, "can act outside the sandbox"},
		{"a denied host", `network: {allowedDomains: [a.example.com], deniedDomains: ["*.example.com"]}`, "never allowed: *.example.com denies it"},
		{"a host denied by name", `network: {allowedDomains: [a.example.com], deniedDomains: [a.example.com]}`, "never allowed"},
		{"a denied wildcard", `network: {allowedDomains: ["*.example.com"], deniedDomains: ["*"]}`, "never allowed"},
		{"an entry twice", `network: {allowedDomains: [a.example.com, A.example.com.]}`, "allowed already, p0.yaml:1"},
		{"localhost", `network: {allowedDomains: [localhost]}`, "is the sandbox itself"},
		{"a loopback address", `network: {allowedDomains: ["127.0.0.1:80"]}`, "is the sandbox itself"},
		{"a reason for nothing", `network: {deniedDomainReasons: {a.example.com: x}}`, "nothing denies it"},
		{"no files protected", `filesystem: {disabled: true}`, "no file is protected"},
		{"secrets readable", `filesystem: {denyRead: [/x]}`, "replaces the built-in one"},
		{"a hidden write root", `filesystem: {allowWrite: [~/.ssh]}`, "cannot be written: path-hidden, builtin:secrets:~/.ssh"},
		{"a denied write root", `filesystem: {allowWrite: [/a/b], denyWrite: [/a]}`, "cannot be written: rule-denied"},
		{"a protected write root", `filesystem: {allowWrite: [~/.bashrc]}`, "cannot be written: path-protected"},
		{"an allowRead of nothing", `filesystem: {allowRead: [/usr]}`, "opens nothing"},
		{"an allowRead of the log", `filesystem: {allowRead: [~/.local/state/sallyport/audit]}`, "stays hidden"},
		{"a variable", `filesystem: {allowWrite: ["$HOME/x"]}`, "plain character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := mustPolicy(t, testEnv, c.text).Warnings()
			if len(w) != 1 || !strings.Contains(w[0].Message, c.want) || w[0].Rule.String() != "p0.yaml:1" {
				t.Errorf("got %+v, want one that says %q", w, c.want)
			}
		})
	}
	for _, text := range []string{
		`network: {allowedDomains: [a.example.com, "*.example.org"], deniedDomains: [b.example.org, "*:22"], deniedDomainReasons: {"*:22": x}}`,
		`filesystem: {allowWrite: [., /tmp/x], denyWrite: [.env]}`,
		`network: {allowedDomains: [10.0.0.0/8], deniedDomains: [10.1.0.0/16]}`,
	} {
		if w := mustPolicy(t, testEnv, text).Warnings(); len(w) != 0 {
			t.Errorf("%s: %+v", text, w)
		}
	}
}

func TestTheSecretsAreTheSpecs(t *testing.T) {
	list := Secrets()
	if len(list) < 40 || list[0] != "~/.ssh" || !slices.Contains(list, "/var/lib/sallyport") {
		t.Errorf("%d: %v", len(list), list)
	}
	p := mustPolicy(t, testEnv)
	for _, s := range list {
		path := strings.Replace(strings.Replace(s, "~", testEnv.Home, 1), "*", "x", 1)
		if d := p.DecideFile(event.FileRead, path+"/below"); d.Allowed() || d.Fix != "" {
			t.Errorf("%s: %+v", path, d)
		}
	}
}

func ExamplePolicy_DecideNet() {
	f, _ := Parse(Source{Name: "policy.yaml", Data: []byte("network:\n  allowedDomains:\n    - '*.example.org'\n")})
	p, _ := New(Env{Home: "/home/u", Cwd: "/home/u/proj"}, f)
	for _, s := range []string{"www.example.org:443", "example.org:443"} {
		req, _ := ParseNetTarget(s)
		d := p.DecideNet(req)
		fmt.Println(s, d.Verdict, d.Rule)
	}
	// Output:
	// www.example.org:443 allow policy.yaml:3
	// example.org:443 deny builtin:default-deny
}
