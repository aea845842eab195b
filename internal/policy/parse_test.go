package policy

import (
	"errors"
	"strings"
	"testing"
)

// problems parses and gives "line:col: message | hint" of each problem.
func problems(t *testing.T, text string) []string {
	t.Helper()
	f, err := Parse(Source{Name: "p.yaml", Data: []byte(text)})
	if err == nil {
		return nil
	}
	var es Errors
	if !errors.As(err, &es) || f != nil {
		t.Fatalf("Parse gave %v and %T; want no file and Errors", f, err)
	}
	var out []string
	for _, e := range es {
		s := strings.TrimPrefix(e.Error(), "p.yaml:")
		if e.Hint != "" {
			s += " | " + e.Hint
		}
		out = append(out, s)
	}
	return out
}

type refusal struct {
	name, text string
	want       []string // each a part of one problem, in order
}

// badYAML is what a policy file may not be made of.
var badYAML = []refusal{
	{"an empty file", "", []string{"empty policy file | a policy that allows nothing is written {}"}},
	{"a file of comments", "# nothing\n", []string{"empty policy file"}},
	{"a marker alone", "---\n", []string{"empty policy file"}},
	{"a null document", "null\n", []string{"1:1: null where a value"}},
	{"a list at the top", "- a\n", []string{"1:1:  wants a mapping, not a list"}},
	{"text at the top", "network\n", []string{"wants a mapping, not text"}},
	{"an unknown key", "network:\n  alowedDomains: [a.b]\n",
		[]string{`2:3: unknown key "alowedDomains" in network | did you mean allowedDomains?`}},
	{"a key in other letters", "Network: {}\n", []string{`1:1: unknown key "Network" at the top | did you mean network?`}},
	{"a key in the wrong place", "denyRead: [x]\n", []string{"| it belongs in filesystem"}},
	{"a key like no other", "zzzzzzzzzz: 1\n", []string{`1:1: unknown key "zzzzzzzzzz" at the top`}},
	{"a duplicate key", "mode: enforce\nmode: audit\n", []string{`2:1: duplicate key "mode": already on line 1`}},
	{"a duplicate key in JSON", `{"filesystem": {"denyRead": ["/a"], "denyRead": []}}`,
		[]string{`1:37: duplicate key "denyRead"`}},
	{"a duplicate key in other quotes", "mode: enforce\n'mode': audit\n", []string{"2:1: duplicate key"}},
	{"text for a list", "network: {allowedDomains: a.b}\n",
		[]string{"network.allowedDomains wants a list, not text | write it in brackets"}},
	{"a list for text", "filesystem: {denyRead: [[a]]}\n", []string{"filesystem.denyRead wants text, not a list"}},
	{"a mapping for a list", "filesystem: {denyRead: {a: b}}\n", []string{"wants a list, not a mapping"}},
	{"text for a boolean", "allowPty: yes\n", []string{"allowPty wants true or false, not text"}},
	{"a number for text", "filesystem: {denyRead: [80]}\n", []string{"wants text, not a number | quote it"}},
	{"a boolean for text", "filesystem: {denyRead: [true]}\n", []string{"wants text, not true or false | quote it"}},
	{"text for a number", "hostPorts: [\"80\"]\n", []string{"hostPorts wants a whole number, not text"}},
	{"a number out of range", "mandatoryDenySearchDepth: 11\n", []string{"must be from 1 to 10"}},
	{"an immense number", "mandatoryDenySearchDepth: 99999999999999999999\n", []string{"1:27:"}},
	{"a fraction", "mandatoryDenySearchDepth: 1.5\n", []string{"wants a whole number, not a number"}},
	{"a null value", "network:\n", []string{"null where a value is expected | leave the key out"}},
	{"a null list", "network: {allowedDomains: null}\n", []string{"null where a value"}},
	{"a bare tilde", "filesystem: {denyWrite: [~]}\n",
		[]string{`1:26: null where a value is expected | a bare ~ means null; for the home directory write "~"`}},
	{"an empty element", "filesystem:\n  denyRead:\n    -\n", []string{"null where a value"}},
	{"an empty entry", "filesystem: {denyRead: [\"\"]}\n", []string{"1:25: empty entry"}},
	{"an entry of spaces", "network: {allowedDomains: [\"  \"]}\n", []string{"empty entry"}},
	{"a second document", "mode: enforce\n---\nmode: audit\n", []string{"2:1: a second document"}},
	{"a second document after an empty one", "---\n---\nmode: audit\n---\nmode: audit\n", []string{"2:1: a second document"}},
	{"an empty second document", "mode: audit\n---\n", []string{"2:1: a second document"}},
	{"a document after the end", "mode: enforce\n...\nmode: audit\n", []string{"3:1: a second document"}},
	{"a lone carriage return", "mode: enforce\rmode: audit\n", []string{"carriage return"}},
	{"a pair in brackets", "network: {allowedDomains: [a.b: 80]}\n", []string{"wants text, not a mapping"}},
	{"a directive", "%YAML 1.2\n---\nmode: audit\n", []string{"1:1: YAML directives"}},
	{"a tag", "mode: !!str audit\n", []string{"1:7: YAML tags are not allowed"}},
	{"a tag of one's own", "filesystem: {denyRead: [!secret x]}\n", []string{"YAML tags"}},
	{"a tag on a mapping", "network: !!map {}\n", []string{"YAML tags"}},
	{"a tag on the document", "!!map\nmode: audit\n", []string{"YAML tags"}},
	{"an anchor", "mode: &m audit\n", []string{"1:7: YAML anchors are not allowed"}},
	{"an anchor on the document", "&m\nmode: audit\n", []string{"YAML anchors"}},
	{"an alias", "filesystem:\n  denyRead: &l [a]\n  denyWrite: *l\n", []string{"YAML anchors", "3:14: YAML aliases"}},
	{"a merge key", "<<: {mode: audit}\n", []string{"1:1: YAML merge keys are not allowed"}},
	{"a merge key below", "network: {<<: {allowedDomains: [a.b]}}\n", []string{"YAML merge keys"}},
	{"a tagged key", "!!str mode: audit\n", []string{"1:1:"}},
	{"an anchored key", "&a mode: audit\n", []string{"1:1:"}},
	{"a complex key", "? mode\n: audit\n", []string{"1:1: a key must be text"}},
	{"a number as a key", "1: audit\n", []string{"1:1: a key must be text"}},
	{"a null key", "~: audit\n", []string{"1:1: a key must be text"}},
	{"an unquoted wildcard", "network:\n  allowedDomains:\n    - *.github.com\n",
		[]string{`3:7: YAML aliases are not allowed | a * at the start makes it a YAML alias; quote it: "*.example.com"`}},
	{"an unquoted wildcard in brackets", "network: {allowedDomains: [*.github.com]}\n", []string{"quote it"}},
	{"an unquoted star", "network:\n  deniedDomains:\n    - *\n", []string{`3:7: undefined alias name | text that starts with * must be quoted`}},
	{"unquoted brackets", "network:\n  allowedDomains:\n    - [::1]:443\n", []string{`3:12:`}},
	{"a tab", "network:\n\tallowedDomains: []\n", []string{"2:"}},
	{"an open bracket", "network: {allowedDomains: [a.b\n", []string{"1:"}},
	{"an open quote", "mode: \"audit\n", []string{"1:7:"}},
	{"a NUL", "mode: audit\x00\n", []string{"control character 0x00"}},
	{"an escape", "# \x1b[2J\nmode: audit\n", []string{"control character 0x1b"}},
	{"bytes that are not UTF-8", "mode: \xff\n", []string{"not UTF-8 text"}},
	{"UTF-16", "\xff\xfem\x00", []string{"not UTF-8 text"}},
	{"too many levels", strings.Repeat("[", 600), []string{"nested deeper"}},
	{"too many levels by dashes", strings.Repeat("- ", 600), []string{"nested deeper"}},
	{"too many keys", strings.Repeat("a: 1\n", maxKeys+1), []string{"20001:2: more than 20000 keys"}},
	{"too much", "# " + strings.Repeat("x", MaxBytes), []string{"larger than"}},
}

// badValues are values that a key does not take.
var badValues = []refusal{
	{"a star in allowedDomains", `network: {allowedDomains: ["*"]}`, []string{"* would allow every host"}},
	{"a top-level wildcard", `network: {allowedDomains: ["*.com"]}`, []string{"too broad: anyone can have a name below com"}},
	{"a wildcard over a public suffix", `network: {allowedDomains: ["*.co.uk"]}`, []string{"too broad"}},
	{"a wildcard over a private suffix", `network: {allowedDomains: ["*.github.io"]}`, []string{"too broad"}},
	{"a wildcard above public suffixes", `network: {allowedDomains: ["*.compute.amazonaws.com"]}`, []string{"too broad"}},
	{"a wildcard in the middle", `network: {allowedDomains: ["a.*.com"]}`, []string{"only at the start"}},
	{"a wildcard over an address", `network: {allowedDomains: ["*.1.2.3.4"]}`, []string{"does not match addresses"}},
	{"a URL", `network: {allowedDomains: ["https://a.b/c"]}`, []string{`is a URL, not a host | write "a.b" without https:// and path`}},
	{"a path after a host", `network: {allowedDomains: ["a.b/c"]}`, []string{"neither a host nor a prefix"}},
	{"port 0", `network: {allowedDomains: ["a.b:0"]}`, []string{"not a number from 1 to 65535"}},
	{"a port with a zero before", `network: {allowedDomains: ["a.b:080"]}`, []string{"not a number"}},
	{"two ports", `network: {allowedDomains: ["a.b:80:90"]}`, []string{"wants brackets"}},
	{"bare IPv6", `network: {allowedDomains: ["::1"]}`, []string{"an IPv6 address wants brackets"}},
	{"a zone", `network: {allowedDomains: ["[fe80::1%eth0]"]}`, []string{"zone"}},
	{"a short name", `network: {allowedDomains: [intranet]}`, []string{"has no dot"}},
	{"every address", `network: {allowedDomains: ["0.0.0.0/0"]}`, []string{"would allow every address"}},
	{"a prefix with host bits", `network: {allowedDomains: ["10.0.0.1/8"]}`, []string{"| write 10.0.0.0/8"}},
	{"a name among addresses", `network: {deniedResolvedAddresses: [a.b]}`, []string{"not an address"}},
	{"a port among addresses", `network: {deniedResolvedAddresses: ["10.0.0.1:80"]}`, []string{"without a port"}},
	{"an empty reason", `network: {deniedDomainReasons: {a.b: ""}}`, []string{"empty entry"}},
	{"a rule without a host", `network: {rules: [{noSNI: allow}]}`, []string{"a rule needs a host"}},
	{"a word nobody knows", `network: {rules: [{host: a.b, noSNI: alow}]}`, []string{"did you mean allow?"}},
	{"another user's home", `filesystem: {denyRead: ["~bob/x"]}`, []string{"only ~ and ~/PATH"}},
	{"a URL as a path", `filesystem: {denyRead: ["https://a.b"]}`, []string{"is a URL, not a path"}},
	{"a line break in a path", `filesystem: {denyRead: ["a\nb"]}`, []string{"control character 0x0a"}},
	{"a path marked not literal", `filesystem: {denyRead: [{path: a, literal: false}]}`, []string{"literal can only be true"}},
	{"a path without a mark", `filesystem: {denyRead: [{path: a}]}`, []string{"needs both"}},
	{"a mark without a path", `filesystem: {denyRead: [{literal: true}]}`, []string{"needs both"}},
	{"an unknown mark", `filesystem: {denyRead: [{path: a, literal: true, x: 1}]}`, []string{"unknown key"}},
	{"an unknown tier", `require: {tier: lms}`, []string{`require.tier cannot be "lms" | one of rootless, trace, lsm`}},
	{"a variable with a dash", `env: {pass: [A-B]}`, []string{"not the name of a variable"}},
	{"a set variable that is none", `env: {set: {"A B": x}}`, []string{"not the name of a variable"}},
	{"a length of time without a unit", `ask: {timeout: "60"}`, []string{"not a length of time"}},
	{"a relative bwrap", `bwrapPath: bin/bwrap`, []string{"wants an absolute path"}},
	{"a published nonsense", `publish: ["a:b"]`, []string{"publish wants"}},
	{"a port beyond the last", `hostPorts: [65536]`, []string{"from 1 to 65535"}},
	{"a proxy without a scheme", `network: {parentProxy: {http: "proxy:3128"}}`, []string{"is not the URL of an HTTP proxy"}},
	{"a proxy of another kind", `network: {parentProxy: {http: "socks5://proxy:1080"}}`, []string{"is not the URL of an HTTP proxy"}},
	{"a proxy with a path", `network: {parentProxy: {http: "http://proxy:1/x"}}`, []string{"is not the URL of an HTTP proxy"}},
	{"a proxy without a host", `network: {parentProxy: {http: "http://:3128"}}`, []string{"is not the URL of an HTTP proxy"}},
	{"a proxy at port 0", `network: {parentProxy: {http: "http://a.b:0"}}`, []string{"is not the URL of an HTTP proxy"}},
	{"a proxy at a false name", `network: {parentProxy: {http: "http://0x7f.1:80"}}`, []string{"is not the URL of an HTTP proxy"}},
	{"a parent that is none", `network: {parentProxy: {noProxy: .corp}}`, []string{"needs http or https"}},
}

func TestParseRefuses(t *testing.T) {
	for _, c := range append(badYAML, badValues...) {
		t.Run(c.name, func(t *testing.T) {
			got := problems(t, c.text)
			if len(got) != len(c.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(got), len(c.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("problem %d is\n%s\nand lacks\n%s", i, got[i], c.want[i])
				}
			}
		})
	}
}

func TestParseListsEveryProblemInOrder(t *testing.T) {
	got := problems(t, "a: 1\nnetwork:\n  allowedDomains: [\"*\", ok.com, \"*.com\"]\nfilesystem:\n  denyRead: [~]\nb: 2\n")
	want := []string{"1:1:", "3:20:", "3:33:", "5:14:", "6:1:"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d: %s, want it at %s", i, got[i], want[i])
		}
	}
}

func TestParseShowsTheSourceLine(t *testing.T) {
	_, err := Parse(Source{Name: "p.yaml", Data: []byte("\ufeffmode: enforce\r\nnope: 1\r\n")})
	var es Errors
	if !errors.As(err, &es) || len(es) != 1 {
		t.Fatalf("got %v", err)
	}
	if e := es[0]; e.SourceLine != "nope: 1" || e.Line != 2 || e.Col != 1 || e.File != "p.yaml" {
		t.Errorf("got %+v", e)
	}
}

// everyKey has the shared keys and our own, each at least once.
var everyKey = []string{`
network:
  allowedDomains: [example.com, "*.example.org:8443", localhost, "[::1]", "[2001:db8::1]:443", 192.0.2.1, 10.0.0.0/8:5432, "[fd00::/8]"]
  deniedDomains: ["*", "*:22", "*.zip", bad.example.com]
  deniedDomainReasons: {"*:22": use https, bad.example.com: no}
  strictAllowlist: true
  deniedResolvedAddresses: [10.0.0.0/8, "fc00::/7", 169.254.169.254]
  allowUnixSockets: [/run/x.sock]
  allowAllUnixSockets: false
  allowLocalBinding: true
  allowMachLookup: [com.apple.x, "com.apple.*"]
  httpProxyPort: 3128
  socksProxyPort: 1080
  mitmProxy: {socketPath: /run/m.sock, domains: [a.example.com]}
  parentProxy: {http: "http://u:p@proxy.example.com:3128", https: "http://proxy.example.com:3128", noProxy: ".corp,10.0.0.0/8", byHostname: true}
  tlsTerminate: {caCertPath: a, caKeyPath: b, excludeDomains: [a.b], extraCaCertPaths: [c], maxTunnels: 4, handshakeTimeoutMs: 100}
  requireHostMatch: true
  refuseOpaqueTunnels: false
  ambiguousRequestTarget: asSpelled
  allowPlaintextHeaderSet: false
  stripResponseHeaders: [Server]
filesystem:
  disabled: false
  denyRead: ["~", /x, {path: "/a[b]", literal: true}]
  allowRead: [.]
  allowWrite: [., "src/**/*.ts"]
  denyWrite: ["**/.env"]
  allowGitConfig: true
ignoreViolations: {"*": [/usr/bin], "git push": ["/nix"]}
enableWeakerNestedSandbox: false
allowNestedUserNamespaces: false
enableWeakerNetworkIsolation: false
allowAppleEvents: false
allowPty: true
mandatoryDenySearchDepth: 5
credentials:
  files: [{path: ~/.netrc, mode: mask, extract: "(x)", onExtractNoMatch: deny, decode: jwt, maskClaims: [a], maskDuplicates: true, injectHosts: ["*.a.com"]}]
  envVars: [{name: TOKEN, mode: deny, extract: "(x)", onExtractNoMatch: warn, decode: jwt, maskClaims: [a], injectHosts: [a.com]}]
  allowPlaintextInject: false
  awsPairs: [{accessKeyIdVar: A, secretAccessKeyVar: B, sessionTokenVar: C}]
  sigv4: {streaming: deny, presigned: passthrough, sigv4a: deny}
windows: {backend: mxc, sandboxUser: u, sublayerGuid: 00000000-0000-0000-0000-000000000000, wfpSublayerGuid: 00000000-0000-0000-0000-000000000000, proxyPortRange: [1, 2], srtWin: {path: x}}
ripgrep: {command: rg, args: [-x], argv0: rg}
socatPath: /usr/bin/socat
seccomp: {applyPath: /x, argv0: y}
javaAgentJarPath: /x.jar
bwrapPath: /usr/bin/bwrap
git: {safeDirectories: [.]}
`, `
require: {tier: trace, audit: true}
ask: {via: [tty, socket, desktop], timeout: 60s}
network:
  rules: [{host: a.b, port: 443, method: GET, path: /x, noSNI: allow, upgrade: allow}]
  authorizer: {exec: [/bin/x, y], timeout: 1s, ttl: 5m, negativeTTL: 1m}
git: [{repo: github.com/o/r, fetch: true, push: {refs: ["refs/heads/agent/*"], create: true, update: true, force: false, delete: false, tags: false}, credential: {gh: true}}]
env: {pass: [GOPATH, "NPM_*"], set: {A: b, E: ""}, unset: [CI]}
limits: {memory: 2G, pids: 100, cpu: 1.5, time: 10m}
mode: audit
audit: {log: /var/log/x, otlp: "http://127.0.0.1:4318", syslog: "tcp://[::1]:601", textfile: /var/lib/x}
publish: ["3000", 3001, "127.0.0.1:8080:80", "[::1]:8080:80"]
hostPorts: [5432]
`}

func TestParseTakes(t *testing.T) {
	for name, text := range map[string]string{
		"nothing allowed":         "{}",
		"a byte order mark":       "\ufeffmode: enforce\n",
		"a marker and an end":     "---\nmode: enforce\n...\n",
		"comments":                "# a\nnetwork: # b\n  # c\n  allowedDomains: # d\n    - a.b # e\n",
		"a port in brackets":      "network: {allowedDomains: [a.b:80, c.d]}",
		"a port in lone brackets": "network:\n  allowedDomains: [a.b:80, \"[::1]:443\", c.d]",
		"a prefix and a port":     "network: {allowedDomains: [10.0.0.0/8:80]}",
		"Windows line ends":       "network:\r\n  allowedDomains:\r\n    - a.b\r\n",
		"JSON": `{
  "network": {"allowedDomains": ["github.com", "*.npmjs.org"], "deniedDomains": []},
  "filesystem": {"denyRead": ["~/.ssh"], "allowWrite": [".", "/tmp"], "denyWrite": [".env"]}
}`,
		"every shared key":     everyKey[0],
		"every key of our own": everyKey[1],
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, text); got != nil {
				t.Errorf("refused: %s", strings.Join(got, "\n"))
			}
		})
	}
}
