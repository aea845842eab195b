package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// summary is --json-summary as documented; nothing else may be in it.
type summary struct {
	Schema         int
	Sandbox        string
	PolicySHA256   string `json:"policy_sha256"`
	Tier           string
	Exit           int
	Counts         map[event.Verdict]uint64
	Lost, System   uint64
	NotRecorded    []string `json:"not_recorded"`
	Denials        []summaryDenial
	DenialsLeftOut uint64 `json:"denials_left_out"`
}

type summaryDenial struct {
	Operation event.Operation
	Object    event.Object
	Reason    event.Reason
	Rule      string
	Count     uint64
	Suggest   string
}

// summarised runs a command and reads what --json-summary wrote.
func (h *home) summarised(flags []string, argv ...string) (*result, summary) {
	h.t.Helper()
	path := filepath.Join(h.dir, "summary.json")
	r := h.runWith(append([]string{"--json-summary", path}, flags...), argv...)
	b, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, r.err)
	}
	var s summary
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		h.t.Fatalf("%v in %s", err, b)
	}
	var keys map[string]any
	_ = json.Unmarshal(b, &keys)
	for _, k := range []string{"schema", "sandbox", "policy_sha256", "tier", "exit", "counts", "lost", "not_recorded", "denials"} {
		if _, ok := keys[k]; !ok {
			h.t.Errorf("no %s in %s", k, b)
		}
	}
	return r, s
}

const twoDenials = `curl -sS --fail http://denied.test/; curl -sS --fail http://denied.test/; curl -sS http://allowed.test/; exec curl -sS --fail --noproxy '*' http://93.184.215.14:8080/`

func TestSummaryNamesRuleAndFix(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	r := h.sh(twoDenials).refused()
	for _, want := range []string{"sallyport: 3 attempts denied\n", "  2× net.connect denied.test:80", "not-allowed, rule builtin:default-deny\n",
		"to allow: --allow-domain denied.test (network.allowedDomains: [denied.test])\n",
		"  1× net.connect 93.184.215.14:8080", "address-literal, rule builtin:address-literal\n",
		"to allow: --allow-domain 93.184.215.14:8080 ", map[string]string{"rootless": "refused but not recorded in tier rootless: "}[h.tier()]} {
		if !strings.Contains(r.err, want) {
			t.Errorf("%q is not in the summary:\n%s", want, r.err)
		}
	}
	if strings.Contains(r.out, "attempts denied") {
		t.Errorf("the summary is on standard output: %q", r.out)
	}
}

func TestQuietSaysNothing(t *testing.T) {
	h := newHome(t)
	if r := h.runWith([]string{"--quiet"}, "curl", "-s", "--fail", "http://denied.test/").refused(); r.err != "" {
		t.Errorf("said %q", r.err)
	}
}

func TestNothingIsSaidWhereNothingWasDenied(t *testing.T) {
	r := newHome(t).allow("allowed.test").run("curl", "-sS", "http://allowed.test/x").ok()
	if r.err != "" || r.out != "hello from allowed.test/x\n" {
		t.Errorf("stdout %q, stderr %q", r.out, r.err)
	}
}

func TestJSONSummaryAgreesWithTheRecord(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	r, s := h.summarised(nil, "sh", "-c", twoDenials)
	denied, attempts := r.denied()
	if s.Schema != 1 || !h.inTier(s.Tier) || s.Exit != r.code || r.code == 0 || s.Lost != 0 || (len(s.NotRecorded) == 0) != h.hasKeeper() {
		t.Errorf("exit status %d, summary %+v", r.code, s)
	}
	if s.Counts[event.Deny] != attempts || attempts != 3 || s.Counts[event.Allow] != 1 {
		t.Errorf("counts %v, %d attempts recorded", s.Counts, attempts)
	}
	if len(denied) == 0 || denied[0].Sandbox.ID != s.Sandbox || denied[0].Sandbox.PolicySHA256 != s.PolicySHA256 || len(s.PolicySHA256) != 64 {
		t.Errorf("summary of %s, policy %s; record:\n%s", s.Sandbox, s.PolicySHA256, describe(denied))
	}
	if len(s.Denials) != 2 || s.Denials[0].Count != 2 || s.Denials[0].Object.Host != "denied.test" || s.Denials[1].Object.Addr != thereV4 {
		t.Errorf("denials %+v", s.Denials)
	}
}

// TestSuggestedFixAllowsTheAttempt applies what is suggested, as a flag and as
// policy text, exactly as it is printed.
func TestSuggestedFixAllowsTheAttempt(t *testing.T) {
	curl := func(args ...string) []string { return append([]string{"curl", "-sS", "--fail", "-g"}, args...) }
	direct := []string{"--noproxy", "*"}
	for _, c := range []struct {
		name   string
		allow  []string
		argv   []string
		output string
	}{
		{"name", nil, curl("http://denied.test/x"), "hello from denied.test/x"},
		{"name over TLS", nil, curl("https://denied.test/x"), "hello from denied.test/x"},
		{"name on another port", nil, curl("http://denied.test:8080/x"), "hello from denied.test:8080/x"},
		{"looked-up name", nil, curl(append(direct, "http://denied.test/x")...), "hello from denied.test/x"},
		{"looked-up name on another port", nil, curl(append(direct, "http://denied.test:8080/x")...), "hello from denied.test:8080/x"},
		{"address", nil, curl(append(direct, "http://"+thereV4+"/x")...), "hello from " + thereV4 + "/x"},
		{"address on another port", nil, curl(append(direct, "http://"+thereV4+":8080/x")...), "hello from " + thereV4 + ":8080/x"},
		{"IPv6 address", nil, curl(append(direct, "http://["+thereV6+"]:8080/x")...), "hello from [" + thereV6 + "]:8080/x"},
		{"port of its own", []string{"mail.test"}, []string{"HELPER", "tcp", "mail.test:25"}, "220 mail.test"},
		{"private address of an allowed name", []string{"mixed.test"}, curl("http://mixed.test/x"), "hello from mixed.test/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t).allow(c.allow...)
			argv, flags := c.argv, caFlags
			if argv[0] == "HELPER" {
				argv, flags = append([]string{h.helperPath()}, argv[1:]...), append([]string{"-e", helperEnv + "=try"}, flags...)
			}
			_, s := h.summarised(flags, argv...)
			if len(s.Denials) != 1 {
				t.Fatalf("denials %+v", s.Denials)
			}
			flag, yaml, ok := strings.Cut(strings.TrimSuffix(s.Denials[0].Suggest, ")"), " (")
			option, value, ok2 := strings.Cut(flag, " ")
			if !ok || !ok2 {
				t.Fatalf("suggested: %q", s.Denials[0].Suggest)
			}
			value = strings.Trim(value, "'")
			h.runWith(append([]string{option, value}, flags...), argv...).ok().says(c.output).nothingDenied()

			key, list, _ := strings.Cut(yaml, ".")
			more := h.write("more.yaml", key+":\n  "+list+"\n")
			h.runWith(append([]string{"--policy", more}, flags...), argv...).ok().says(c.output).nothingDenied()
		})
	}
}

func TestDenialsNameTheLineAndTheWordsOfThePolicy(t *testing.T) {
	h := newHome(t).usePolicy("network:\n  allowedDomains: ['*.allowed.test', allowed.test]\n  deniedDomains:\n    - also.allowed.test\n" +
		"  deniedDomainReasons:\n    also.allowed.test: use allowed.test, it is the same\n")
	want := denial{op: event.NetConnect, host: "also.allowed.test", port: 80, reason: event.RuleDenied, rule: h.policy + ":4"}
	r := h.run("curl", "-sS", "http://also.allowed.test/")
	r.once(want)
	r.says("use allowed.test, it is the same").says("rule: " + want.rule)
	if !strings.Contains(r.err, "rule "+want.rule) {
		t.Errorf("the summary does not name %s:\n%s", want.rule, r.err)
	}
	silent(t)
	want.op, want.port = event.NetDNS, 0
	h.run("curl", "-sS", "--noproxy", "*", "http://also.allowed.test/").refused().once(want)
	silent(t)
}

func TestRefusalsAreReadable(t *testing.T) {
	h := newHome(t)
	r := h.run("curl", "-sS", "-i", "http://denied.test/")
	for _, want := range []string{"403 Forbidden", "X-Sallyport-Reason: not-allowed", "rule: builtin:default-deny", "fix: --allow-domain denied.test"} {
		r.says(want)
	}
}

func TestExitStatusOfTheCommandPassesThroughDenials(t *testing.T) {
	h := newHome(t)
	for script, want := range map[string]int{"": 0, "exit 7": 7, "exit 125": 125, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		if r := h.sh("curl -s --fail http://denied.test/\n" + script + "\ntrue"); r.code != want {
			t.Errorf("%q: exit status %d, want %d", script, r.code, want)
		}
	}
	if r := h.run("no-such-program"); r.code != 127 {
		t.Errorf("exit status %d of a missing program\n%s", r.code, r.err)
	}
	if r := h.run("/etc/passwd"); r.code != 126 {
		t.Errorf("exit status %d of what is no program\n%s", r.code, r.err)
	}
}
