package policy

import (
	"slices"
	"testing"
)

func TestRulesForHostsAreNotFixed(t *testing.T) {
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
	if fixed := was.Fixed(next); len(fixed) > 0 {
		t.Errorf("fixed: %q", fixed)
	}
}

func TestWhatASandboxIsBuiltOfIsFixed(t *testing.T) {
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
		"ask.via":                     `ask: {via: [tty]}`,
		"network.authorizer":          `network: {authorizer: {exec: [/bin/x]}}`,
		"require.tier":                `require: {tier: trace}`,
		"require.audit":               `require: {audit: true}`,
	} {
		fixed := was.Fixed(mustPolicy(t, testEnv, text))
		if key == "filesystem.disabled" { // which drops the protected names, too
			fixed = slices.DeleteFunc(fixed, func(k string) bool { return k == "filesystem.allowGitConfig" })
		}
		if !slices.Equal(fixed, []string{key}) {
			t.Errorf("%s: fixed %q", key, fixed)
		}
	}
	if fixed := was.Fixed(mustPolicy(t, testEnv, "# moved\n\n"+base)); len(fixed) > 0 {
		t.Errorf("only lines have moved, and fixed is %q", fixed)
	}
}
