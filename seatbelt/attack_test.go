package seatbelt

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
)

// verdict asks a machine about a path.
func verdict(m *machine, op, p string) bool {
	return m.modelH(op, m.matches(subject{path: p}))
}

// renames reports whether the kernel lets something be renamed: it asks for an
// unlink of the source and a creation of the target, and nothing else.
func renames(m *machine, from, to string) bool {
	return verdict(m, "file-write-create", to) && verdict(m, "file-write-unlink", from)
}

func TestNoRenameChangesWhatMayBeReadOrWritten(t *testing.T) {
	policies := 60
	if testing.Short() {
		policies = 30
	}
	tried, renamed := 0, 0
	for i := range policies {
		w := world{rand.New(rand.NewPCG(11, uint64(i)))}
		p, yaml := w.policy(t, true)
		if p.Files().Disabled {
			continue // nothing but our own files is held then
		}
		m := both(t, build(t, p))[1]
		for range 60 {
			from, to := w.writablePath(), w.writablePath()
			tried++
			if within(from, to) || within(to, from) || !renames(m, from, to) {
				continue
			}
			renamed++
			for range 6 {
				rest := ""
				for range 1 + w.IntN(3) {
					rest += "/" + pick(w, worldNames)
				}
				here, there := m.matches(subject{path: from + rest}), m.matches(subject{path: to + rest})
				for _, op := range []string{"file-read-data", "file-write-data"} {
					before, after := m.modelH(op, here), m.modelH(op, there)
					if before != after {
						t.Fatalf("%s: %s to %s: %s was allowed %v, is allowed %v\n%s", op, from, to, rest, before, after, yaml)
					}
				}
			}
		}
	}
	if renamed < tried/50 {
		t.Errorf("%d of %d renames were possible: the cases say little", renamed, tried)
	}
	t.Logf("%d renames tried, %d possible", tried, renamed)
}

// writablePath is more often in a place where something may be written.
func (w world) writablePath() string {
	p := pick(w, []string{"/Users/u/proj", worldTmp, "/Users/u/proj/sub", "/private/opt/w"})
	for range 1 + w.IntN(2) {
		p += "/" + pick(w, worldNames)
	}
	return p
}

func TestMoveAttacksAreRefused(t *testing.T) {
	p := macPolicy(t, `filesystem:
  denyRead: [/Users/u/.aws, "/Users/u/proj/**/.env", "/Users/u/proj/*/private", /Users/u/proj/deep/down/secret]
  denyWrite: [/Users/u/proj/dist/out, "/Users/u/proj/**/*.lock"]
  allowWrite: [/Users/u, /private/opt/w]
`)
	m := both(t, build(t, p))[1]
	const proj = "/Users/u/proj"
	for _, tt := range []struct{ name, from, to string }{
		{"the hidden directory itself", "/Users/u/.aws", proj + "/x"},
		{"a file in it", "/Users/u/.aws/credentials", proj + "/x"},
		{"its parent", "/Users/u", "/private/opt/w/x"},
		{"its parent's parent", "/Users", "/private/opt/w/x"},
		{"a hidden file found by pattern", proj + "/sub/.env", proj + "/x"},
		{"a directory a pattern names the inside of", proj + "/a", "/private/opt/w/x"},
		{"the first parent of a hidden name", proj + "/deep", proj + "/x"},
		{"the second", proj + "/deep/down", proj + "/x"},
		{"the project that holds it", proj, "/Users/u/x"},
		{"a protected directory", proj + "/.git/hooks", proj + "/x"},
		{"what leads to one", proj + "/.git", proj + "/x"},
		{"what leads to one, in other letters", proj + "/sub/.GIT", proj + "/x"},
		{"a submodule's", proj + "/.git/modules/a", proj + "/x"},
		{"something made elsewhere, onto what leads to one", proj + "/x", proj + "/sub/.git"},
		{"the same, where the name is in other letters", proj + "/x", proj + "/sub/.Git"},
		{"something made elsewhere, onto a protected name", proj + "/x", proj + "/.envrc"},
		{"the same in the run's own directory", worldTmp + "/x", worldTmp + "/sub/.git"},
		{"something made elsewhere, onto a write-denied one", proj + "/x", proj + "/dist/out"},
		{"onto its parent", proj + "/x", proj + "/dist"},
		{"onto what a pattern denies", proj + "/x", proj + "/sub/a.lock"},
		{"a write-denied one", proj + "/dist/out", proj + "/x"},
		{"its parent", proj + "/dist", proj + "/x"},
		{"the directory of the policy", "/Users/u/.config", "/private/opt/w/x"},
		{"the directory of the record", "/Users/u/.local", "/private/opt/w/x"},
	} {
		if renames(m, tt.from, tt.to) {
			t.Errorf("%s: %s could be renamed to %s", tt.name, tt.from, tt.to)
		}
	}
	// What need not be refused is not, and what moves on stays hidden.
	for _, tt := range [][2]string{{proj + "/a/x", proj + "/a/y"}, {"/Users/u/lib", "/private/opt/w/lib"}, {worldTmp + "/x", proj + "/a/y"}} {
		if !renames(m, tt[0], tt[1]) {
			t.Errorf("%s cannot be renamed to %s", tt[0], tt[1])
		}
	}
	for _, hidden := range []string{"/private/opt/w/x/.env", worldTmp + "/.env", "/Users/u/elsewhere/.env"} {
		if verdict(m, "file-read-data", hidden) {
			t.Errorf("%s, which may have come from the project, can be read", hidden)
		}
	}
}

func TestAMissingPathCannotBeMadeInOtherLetters(t *testing.T) {
	p := macPolicy(t, "filesystem:\n  allowWrite: [/Users/u/proj]\n  denyWrite: [/Users/u/proj/kiosk/first]\n  denyRead: []\n")
	profile, err := Build(Input{Policy: p, FS: NominalRoot{Dirs: []string{"/Users/u/proj"}}, Home: macEnv.Home, Tmp: worldTmp, Tag: testTag})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range both(t, profile) {
		for name, want := range map[string]bool{"kiosk/first": false, "KIOSK/First": false, "\u212aiosk/first": false, "kio\u017fk/first": false,
			"kiosk/\ufb01rst": false, "kiosk/fir\ufb06": false, "kiosk/first/x": false, "KIOSK/FIRST/x": false, "kiosk/second": true, "kiosk2/first": true} {
			if got := verdict(m, "file-write-create", "/Users/u/proj/"+name); got != want {
				t.Errorf("%q: allowed %v", name, got)
			}
		}
		for _, name := range []string{".git/hoo\u212as/x", ".ba\u017fhrc", ".gitcon\ufb01g", ".claude/settings.local.json", ".claude/SETTINGS.JSON", ".claude/\u017fettings.json"} {
			if verdict(m, "file-write-create", "/Users/u/proj/a/"+name) {
				t.Errorf("%q can be made", name)
			}
		}
	}
}

func TestAddingADenialOpensNothing(t *testing.T) {
	for i := range 60 {
		w := world{rand.New(rand.NewPCG(13, uint64(i)))}
		reads, opens, writes, denies := w.list(2, true), w.list(2, false), append(w.list(2, true), "/Users/u/proj"), w.list(2, true)
		less := denialsMachine(t, reads, opens, writes, denies)
		more := denialsMachine(t, append(w.list(2, true), reads...), opens, writes, append(w.list(2, true), denies...))
		for range 60 {
			p := w.path()
			a, b := less.matches(subject{path: p}), more.matches(subject{path: p})
			for _, op := range oracleOps {
				if more.modelH(op, b) && !less.modelH(op, a) {
					t.Fatalf("%s %s is open with more denials", op, p)
				}
			}
		}
	}
}

func denialsMachine(t *testing.T, reads, opens, writes, denies []string) *machine {
	t.Helper()
	clone := func(l []string) []string { return append([]string(nil), l...) }
	p := macPolicy(t, fmt.Sprintf("filesystem:\n  denyRead: %s\n  allowRead: %s\n  allowWrite: %s\n  denyWrite: %s\n",
		quoteAll(clone(reads)), quoteAll(clone(opens)), quoteAll(clone(writes)), quoteAll(clone(denies))))
	return both(t, build(t, p))[1]
}

func TestTheNetworkIsTheProxyAlone(t *testing.T) {
	plain := both(t, build(t, macPolicy(t, "network: {}\n")))[0]
	listening := both(t, build(t, macPolicy(t, "network: {allowLocalBinding: true}\n")))[0]
	for _, tt := range []struct {
		op       string
		s        subject
		plain    bool
		listener bool
	}{
		{"network-outbound", subject{remote: "localhost:8443"}, true, true},
		{"network-outbound", subject{remote: "localhost:8444"}, false, false},
		{"network-outbound", subject{remote: "example.com:8443"}, false, false},
		// An unbound socket's own address is any, which "localhost" matches.
		{"network-outbound", subject{remote: "example.com:443", local: "localhost:0"}, false, false},
		{"network-outbound", subject{path: "/private/var/run/mDNSResponder"}, false, false},
		{"network-bind", subject{local: "localhost:3000"}, false, true},
		{"network-inbound", subject{local: "localhost:3000"}, false, true},
		{"network-bind", subject{path: "/Users/u/proj/s"}, false, false},
	} {
		if got := plain.modelH(tt.op, plain.matches(tt.s)); got != tt.plain || plain.flat(tt.op, plain.matches(tt.s)) != got {
			t.Errorf("%s %+v: %v", tt.op, tt.s, got)
		}
		if got := listening.modelH(tt.op, listening.matches(tt.s)); got != tt.listener || listening.flat(tt.op, listening.matches(tt.s)) != got {
			t.Errorf("listening: %s %+v: %v", tt.op, tt.s, got)
		}
	}
	for _, r := range listening.rules {
		for _, f := range r.filters {
			if f.head() == "local" && strings.Contains(fmt.Sprint(r.ops), "outbound") {
				t.Error("(local …) on network-outbound admits every destination")
			}
		}
	}
}

func TestSocketsOpenByName(t *testing.T) {
	m := both(t, build(t, macPolicy(t, "network: {allowUnixSockets: [/private/var/run/docker.sock]}\n")))[0]
	for p, want := range map[string]bool{"/private/var/run/docker.sock": true, "/private/var/run/docker.sock2": false, "/private/var/run/mDNSResponder": false} {
		if got := verdict(m, "network-outbound", p); got != want {
			t.Errorf("%s: %v", p, got)
		}
	}
	m = both(t, build(t, macPolicy(t, "network: {allowAllUnixSockets: true}\n")))[0]
	if !verdict(m, "network-outbound", "/private/var/run/mDNSResponder") || m.modelH("network-outbound", m.matches(subject{remote: "example.com:1"})) {
		t.Error("allowAllUnixSockets opens sockets, and nothing else")
	}
	for _, yaml := range []string{"network: {allowAllUnixSockets: true}\n", "network: {allowUnixSockets: [/Users/u]}\n"} {
		for _, m := range both(t, build(t, macPolicy(t, yaml))) {
			own := macEnv.StateDir + "/run/0123456789ab.sock"
			if verdict(m, "network-outbound", own) || verdict(m, "network-bind", own) || !verdict(m, "network-outbound", "/Users/u/x.sock") {
				t.Errorf("%s opens our own sockets, which start programs in other sandboxes", yaml)
			}
		}
	}
	if _, err := Build(Input{Policy: macPolicy(t, "network: {allowUnixSockets: [/]}\n"), FS: fullRoot{}, Home: "/Users/u", Tag: testTag}); err == nil {
		t.Error("/ was taken for a socket")
	}
}

func TestEveryDenialHasTheTagAndNothingLeavesTheSandbox(t *testing.T) {
	for i := range 50 {
		w := world{rand.New(rand.NewPCG(17, uint64(i)))}
		p, _ := w.policy(t, false)
		profile := build(t, p)
		rules, err := readProfile(profile.Text)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			if r.deny != (r.message == testTag) {
				t.Fatalf("%v has the message %q", r.ops, r.message)
			}
		}
		if strings.Contains(profile.Text, "no-sandbox") || !isASCII(profile.Text) {
			t.Fatal(profile.Text)
		}
		if rules[0].ops[0] != "default" || !rules[0].deny {
			t.Fatal("the first rule does not deny the rest")
		}
	}
}

// FuzzProfile puts hostile paths into every list: whatever they are, the
// profile has the same forms as with harmless ones, or there is none.
func FuzzProfile(f *testing.F) {
	for _, s := range []string{`a"b`, `a\`, `a)(allow default)`, "a\nb", "a\x00b", `"))(allow file-write*)(deny x (literal "`, "é", "\xff", `[[]`, `a*"\)`,
		"**/a[\"\\]*", "..", "?\u212a", `#"x"`, "(param \"P_0\")", "*[!-~]", "*$^.|+(){}", ";x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := path.Join("/Users/u/proj", strings.ReplaceAll(s, "/", "_"))
		for _, literal := range []string{"{path: %q, literal: true}", "%q"} {
			entry := fmt.Sprintf(literal, name)
			p, err := tryPolicy(fmt.Sprintf("filesystem:\n  denyRead: [%[1]s]\n  allowRead: [%[1]s]\n  denyWrite: [%[1]s]\n  allowWrite: [%[1]s, /Users/u/proj]\n", entry))
			if err != nil {
				continue
			}
			profile, err := Build(Input{Policy: p, FS: NominalRoot{}, Home: macEnv.Home, Tmp: worldTmp, Tag: testTag, Ports: []uint16{1}})
			if err != nil {
				continue
			}
			checkForms(t, profile, s)
		}
	})
}

func checkForms(t *testing.T, p *Profile, s string) {
	t.Helper()
	rules, err := readProfile(p.Text)
	if err != nil {
		t.Fatalf("%q: %v\n%s", s, err, p.Text)
	}
	opens := 0
	for _, r := range rules {
		if !r.deny && len(r.filters) == 0 {
			opens++
		}
	}
	if opens != 5 || !isASCII(p.Text) {
		t.Fatalf("%q: %d rules open something whole\n%s", s, opens, p.Text)
	}
	for _, v := range p.Params {
		if checkParam(v.Value) != nil {
			t.Fatalf("%q: the parameter %q", s, v.Value)
		}
	}
	m, err := newMachine(p, false)
	if err != nil {
		t.Fatal(err)
	}
	if verdict(m, "file-write-data", "/private/etc/passwd") || m.modelH("network-outbound", m.matches(subject{remote: "example.com:1"})) {
		t.Fatalf("%q opened something else\n%s", s, p.Text)
	}
}
