package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// badHost fails the test unless sallyport itself refused: 125, one error that
// says words, one hint, and nothing else.
func (r *result) badHost(words ...string) {
	r.t.Helper()
	if r.code != 125 {
		r.t.Errorf("exit status %d, want 125\n%s%s", r.code, r.out, r.err)
	}
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "sallyport: error: ") || !strings.HasPrefix(lines[1], "sallyport: hint: ") {
		r.t.Errorf("want one error and one hint, got\n%s", r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			r.t.Errorf("no %q in\n%s", w, r.err)
		}
	}
	if r.out != "" {
		r.t.Errorf("standard output got %q", r.out)
	}
}

// notStarted fails the test if "touch started" ran.
func (h *home) notStarted() {
	h.t.Helper()
	if _, err := os.Lstat(h.work + "/started"); err == nil {
		h.t.Error("the command was started")
		os.Remove(h.work + "/started")
	}
}

func TestABadHostIsRefusedWithOneErrorAndOneHint(t *testing.T) {
	for name, test := range map[string]struct {
		wrap  []string
		setup func(h *home)
		say   []string
		root  string // why it takes root
	}{
		"bubblewrap missing": {wrap: bwrapDirs(), say: []string{"find bubblewrap", "apt-get install bubblewrap"}},
		"bubblewrap of another owner": {setup: func(h *home) {
			copyFile(h.t, "/usr/bin/bwrap", h.dir+"/bwrap", 0o755)
			h.own(h.dir + "/bwrap")
			h.wrap = []string{"replace=/usr/bin/bwrap:" + h.dir + "/bwrap"}
		}, say: []string{"belongs to user"}, root: "in a user namespace of one user, his files look like root's"},
		"bubblewrap that others can write": {setup: func(h *home) {
			copyFile(h.t, "/usr/bin/bwrap", h.dir+"/bwrap", 0o777)
			h.wrap = []string{"replace=/usr/bin/bwrap:" + h.dir + "/bwrap"}
		}, say: []string{"can be written by others"}, root: "the file must be root's"},
		"no user namespace": {wrap: []string{"userns", "limit=max_user_namespaces:0"},
			say: []string{"network namespaces", "user.max_user_namespaces=0", "sysctl -w"}},
		"no user namespace for bubblewrap": {wrap: []string{"userns", "limit=max_user_namespaces:1"}, say: []string{"bubblewrap", "namespace"}},
		"no network namespace":             {wrap: []string{"userns", "limit=max_net_namespaces:0"}, say: []string{"network namespace", "user.max_net_namespaces=0"}},
		"no mount namespace":               {wrap: []string{"userns", "limit=max_mnt_namespaces:0"}, say: []string{"network namespaces", "user.max_mnt_namespaces=0"}},
		"no pid namespace":                 {wrap: []string{"userns", "limit=max_pid_namespaces:0"}, say: []string{"network namespaces", "user.max_pid_namespaces=0"}},
		"no nftables":                      {wrap: []string{"refuse-netlink=12"}, say: []string{"nftables"}},
		"no route netlink":                 {wrap: []string{"refuse-netlink=0"}, say: []string{"NETLINK_ROUTE"}},
		"unreadable binary": {setup: func(h *home) {
			h.binary = h.dir + "/sallyport"
			copyFile(h.t, binary, h.binary, 0o111)
			h.own(h.binary)
		}, say: []string{"readable"}},
		"unwritable record": {setup: func(h *home) { h.env = append(h.env, "XDG_STATE_HOME="+h.mkdir("ro")); os.Chmod(h.dir+"/ro", 0o555) },
			say: []string{"audit log", "XDG_STATE_HOME"}},
		"no $HOME":                  {setup: func(h *home) { h.env = append(h.env, "HOME=") }, say: []string{"HOME"}},
		"missing working directory": {setup: func(h *home) { h.work = h.mkdir("gone"); h.wrap = []string{"remove-cwd"} }, say: []string{"working directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.root != "" && os.Getuid() != 0 {
				t.Skip("takes root: " + test.root)
			}
			h := newHome(t)
			h.wrap = test.wrap
			if test.setup != nil {
				test.setup(h)
			}
			before := descendants(t)
			h.run("touch", "started").badHost(test.say...)
			h.notStarted()
			h.nothingLeft(before)
		})
	}
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, mode)
	}
	if err == nil {
		err = os.Chmod(to, mode) // past the umask
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAMissingDirectoryByFlagIsRefused(t *testing.T) {
	h := newHome(t)
	h.runWith([]string{"-C", h.dir + "/none"}, "touch", h.work+"/started").badHost("working directory", "--chdir")
	h.runWith([]string{"-C", h.write("file", "")}, "touch", h.work+"/started").badHost("working directory")
	h.notStarted()
}

func TestABadPolicyIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ policy, say string }{
		"unknown key":   {"netwrok: {}", "netwrok"},
		"wrong type":    {"network: {allowedDomains: yes}", "allowedDomains"},
		"every host":    {"network: {allowedDomains: ['*']}", "every host"},
		"empty":         {"", "empty"},
		"not yaml":      {"a: [", "policy.yaml:1"},
		"a higher tier": {"require: {tier: lsm}", "lsm"},
		"audit":         {"require: {audit: true}", "complete record"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t).rootless().usePolicy(test.policy)
			r := h.run("touch", "started")
			if r.code != 125 || !strings.Contains(r.err, test.say) || strings.Count(r.err, "sallyport: error: ") != 1 || strings.Count(r.err, "hint: ") > 1 {
				t.Errorf("exit status %d\n%s", r.code, r.err)
			}
			h.notStarted()
		})
	}
	h := newHome(t)
	h.runWith([]string{"--policy", h.dir + "/none.yaml"}, "touch", "started").badHost("none.yaml")
	h.notStarted()
}

func TestUsageErrorsOfRunAre125(t *testing.T) {
	h := newHome(t)
	for _, args := range [][]string{{"run", "--timeout", "-1s"}, {"run", "--timeout", "soon"}, {"run", "--no-such-flag", "--", "true"}, {"run", "--user", "root", "--", "true"}, {"run", "--allow-domain", "*", "--", "true"}} {
		if r := h.sallyport(args...); r.code != 125 || !strings.Contains(r.err, "sallyport: error: ") {
			t.Errorf("%q: exit status %d\n%s", args, r.code, r.err)
		}
	}
}

func TestExitStatuses(t *testing.T) {
	h := newHome(t)
	script := h.write("work/script", "#!/no/such/interpreter\n")
	plain := h.write("work/plain", "true\n")
	os.Chmod(script, 0o755)
	for want, commands := range map[int][][]string{
		0:   {{"true"}},
		1:   {{"false"}},
		42:  {{"sh", "-c", "exit 42"}},
		125: {{"sh", "-c", "exit 125"}},
		126: {{plain}, {"./plain"}, {h.work}, {script}, {"/etc/shadow"}},
		127: {{"no-such-program"}, {"/no/such/program"}, {"./none"}},
		129: {{"sh", "-c", "kill -HUP $$"}}, 137: {{"sh", "-c", "kill -KILL $$"}}, 139: {{"sh", "-c", "kill -SEGV $$"}}, 143: {{"sh", "-c", "kill $$"}},
	} {
		for _, c := range commands {
			if r := h.run(c...); r.code != want {
				t.Errorf("%q: exit status %d, want %d\n%s", c, r.code, want, r.err)
			}
		}
	}
}

type finding struct{ Name, State, Found, Cure string }

type diagnosis struct {
	Tier     string
	Findings []finding
}

// diagnosed reads what doctor says, in words and as JSON: both must say the same.
func diagnosed(t *testing.T, text, asJSON *result, code int) (d diagnosis) {
	t.Helper()
	if text.code != code || asJSON.code != code {
		t.Errorf("exit status %d and %d, want %d\n%s%s", text.code, asJSON.code, code, text.out, asJSON.err)
	}
	if err := json.Unmarshal([]byte(asJSON.out), &d); err != nil {
		t.Fatalf("%v: %s", err, asJSON.out)
	}
	for _, f := range d.Findings {
		if !strings.Contains(text.out, f.Name) || !strings.Contains(text.out, f.Cure) {
			t.Errorf("the text lacks %q, or its cure %q:\n%s", f.Name, f.Cure, text.out)
		}
		if (f.State == "ok") != (f.Cure == "") {
			t.Errorf("%s is %s, and its cure is %q", f.Name, f.State, f.Cure)
		}
	}
	if strings.Contains(text.out, "CANNOT") != (code == 1) || (d.Tier == "none") != (code == 1) {
		t.Errorf("tier %q, verdict:\n%s", d.Tier, text.out)
	}
	return d
}

// lacks is what is not as it should be.
func (d diagnosis) lacks(state string) (list []finding) {
	for _, f := range d.Findings {
		if f.State == state {
			list = append(list, f)
		}
	}
	return list
}

func (h *home) doctor(code int) diagnosis {
	h.t.Helper()
	return diagnosed(h.t, h.sallyport("doctor"), h.sallyport("doctor", "-o", "json"), code)
}

func TestDoctorSaysWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		wrap    []string
		code    int
		missing string // name of the finding
		cure    string
	}{
		"a good host":        {nil, 0, "", ""},
		"bubblewrap missing": {bwrapDirs(), 1, "bubblewrap", "apt-get install bubblewrap"},
		"no user namespace":  {[]string{"userns", "limit=max_user_namespaces:0"}, 1, "namespaces, nftables", "sysctl -w user.max_user_namespaces"},
		"no nftables":        {[]string{"refuse-netlink=12"}, 1, "namespaces, nftables", "nf"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.wrap = test.wrap
			var missing []string
			for _, f := range h.doctor(test.code).lacks("missing") {
				missing = append(missing, f.Name)
				if !strings.Contains(f.Cure, test.cure) {
					t.Errorf("cure of %s: %q", f.Name, f.Cure)
				}
			}
			if strings.Join(missing, " ") != test.missing {
				t.Errorf("missing: %q, want %q", missing, test.missing)
			}
		})
	}
}

// What an old bubblewrap has not got is not asked of it, and doctor says so.
func TestAnOldBubblewrapIsUsedAsFarAsItGoes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root: a bubblewrap must be root's")
	}
	for version, options := range map[string][]string{"0.5": {"--disable-userns"}, "0.4": {"--disable-userns", "--perms"}} {
		t.Run(version, func(t *testing.T) {
			h := newHome(t)
			b, err := os.ReadFile("/usr/bin/bwrap")
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range options { // as many bytes: the program knows another option
				b = bytes.ReplaceAll(b, []byte(o), []byte(o[:len(o)-1]+"X"))
			}
			old := h.dir + "/bwrap"
			if err := os.WriteFile(old, b, 0o755); err != nil {
				t.Fatal(err)
			}
			h.wrap = []string{"replace=/usr/bin/bwrap:" + old}
			h.write(".ssh/id_ed25519", "secret")
			r := h.run("sh", "-c", "cat ~/.ssh/id_ed25519 2>&1; unshare --user true 2>/dev/null; echo $?")
			if strings.HasSuffix(r.ok().out, "\n0\n") || !strings.Contains(r.out, "Permission denied") {
				t.Errorf("it says %q", r.out)
			}
			want := map[string]string{"0.5": "install 0.8 or later", "0.4": "install 0.5 or later"}[version]
			if list := h.doctor(0).lacks("less"); !slices.ContainsFunc(list, func(f finding) bool { return f.Name == "bubblewrap" && f.Cure == want }) {
				t.Errorf("no lack of bubblewrap with the cure %q: %+v", want, list)
			}
		})
	}
}
