package policy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestAnUpdateChangesWhatIsDecidedAboutHosts(t *testing.T) {
	was := mustPolicy(t, testEnv, `{network: {allowedDomains: [a.example.com], deniedDomains: [d.example.com]}, filesystem: {allowWrite: [/a]}}`)
	next := mustPolicy(t, testEnv, `
network:
  allowedDomains: [b.example.com, 10.0.0.0/8]
  deniedDomains: ["*.b.example.com"]
  deniedDomainReasons: {"*.b.example.com": because}
  deniedResolvedAddresses: [192.0.2.0/24]
  strictAllowlist: true
  rules: [{host: b.example.com, port: 443, noSNI: allow}, {host: b.example.com, port: 80, upgrade: allow}]
  parentProxy: {http: "http://p.example.com:3128"}
filesystem: {allowWrite: [/a]}
`)
	u, fixed := was.Update(next)
	if len(fixed) > 0 {
		t.Errorf("fixed: %q", fixed)
	}
	if u.SHA256() != next.SHA256() {
		t.Error("the SHA-256 is not the new policy's")
	}
	for _, target := range []string{"a.example.com:443", "b.example.com:443", "x.b.example.com:443", "d.example.com:443", "10.0.0.1:80"} {
		req := mustTarget(target)
		if got, want := u.DecideNet(req), next.DecideNet(req); got != want {
			t.Errorf("%s: %+v, want %+v", target, got, want)
		}
	}
	b := mustTarget("b.example.com:443")
	for _, a := range []string{"10.1.1.1", "192.0.2.1", "9.9.9.9", "127.0.0.1"} {
		addr := netip.MustParseAddr(a)
		if got, want := u.DecideResolved(b, addr), next.DecideResolved(b, addr); got != want {
			t.Errorf("%s: %+v, want %+v", a, got, want)
		}
	}
	if _, ok := u.AllowNoSNI(b); !ok {
		t.Error("noSNI is not the new policy's")
	}
	if _, ok := u.AllowUpgrade(mustTarget("b.example.com:80")); !ok {
		t.Error("upgrade is not the new policy's")
	}
	if parent, _ := u.ParentFor(b); parent == nil {
		t.Error("the parent proxy is not the new policy's")
	}
	if d := was.DecideNet(mustTarget("a.example.com:443")); !d.Allowed() {
		t.Error("the policy that was updated has changed")
	}
}

func TestAnUpdateLeavesWhatASandboxIsBuiltOf(t *testing.T) {
	base := `network: {allowedDomains: [a.example.com]}`
	was := mustPolicy(t, testEnv, base)
	for key, text := range map[string]string{
		"filesystem.disabled":         `filesystem: {disabled: true}`,
		"filesystem.denyRead":         `filesystem: {denyRead: []}`,
		"filesystem.allowRead":        `filesystem: {allowRead: [~/.ssh]}`,
		"filesystem.allowWrite":       `filesystem: {allowWrite: [/w]}`,
		"filesystem.denyWrite":        `filesystem: {denyWrite: [/w]}`,
		"filesystem.allowGitConfig":   `filesystem: {allowGitConfig: true}`,
		"mandatoryDenySearchDepth":    `mandatoryDenySearchDepth: 7`,
		"network.allowUnixSockets":    `network: {allowUnixSockets: [/s]}`,
		"network.allowAllUnixSockets": `network: {allowAllUnixSockets: true}`,
		"env.pass":                    `env: {pass: [A]}`,
		"env.unset":                   `env: {unset: [A]}`,
		"env.set":                     `env: {set: {A: b}}`,
		"publish":                     `publish: [3000]`,
		"hostPorts":                   `hostPorts: [5432]`,
		"limits":                      `limits: {pids: 5}`,
		"require.tier":                `require: {tier: trace}`,
		"require.audit":               `require: {audit: true}`,
	} {
		u, fixed := was.Update(mustPolicy(t, testEnv, text))
		if key == "filesystem.disabled" { // which drops the protected names, too
			fixed = slices.DeleteFunc(fixed, func(k string) bool { return k == "filesystem.allowGitConfig" })
		}
		if !slices.Equal(fixed, []string{key}) {
			t.Errorf("%s: fixed %q", key, fixed)
		}
		for _, path := range []string{"/w/x", "/home/u/.ssh/id", "/home/u/proj/x", "/home/u/proj/.git/config"} {
			for _, op := range []event.Operation{event.FileRead, event.FileWrite} {
				if got, want := u.DecideFile(op, path), was.DecideFile(op, path); got != want {
					t.Errorf("%s: %s %s: %+v, want %+v", key, op, path, got, want)
				}
			}
		}
		if got, want := u.Require(), was.Require(); got != want {
			t.Errorf("%s: requires %+v, want %+v", key, got, want)
		}
	}
	if _, fixed := was.Update(mustPolicy(t, testEnv, "# moved\n\n"+base)); len(fixed) > 0 {
		t.Errorf("only lines have moved, and fixed is %q", fixed)
	}
}
