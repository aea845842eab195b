package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// srt runs a line of the shell under settings of srt's.
func (h *home) srt(settings, line string) *result {
	h.t.Helper()
	return h.sallyport("srt", "--settings", h.write("settings.json", settings), "-c", line)
}

const srtSettings = `{
  "network": {
    "allowedDomains": ["allowed.test", "*.allowed.test:80"],
    "deniedDomains": ["also.allowed.test"],
    "deniedDomainReasons": {"also.allowed.test": "use allowed.test"},
    "strictAllowlist": true
  },
  "filesystem": {
    "denyRead": ["~/secret", "~/private"], "allowRead": ["~/secret/open"],
    "allowWrite": ["."], "denyWrite": ["keep", {"path": "k[e]y", "literal": true}]
  },
  "ignoreViolations": {"*": ["quiet.test"]},
  "enableWeakerNestedSandbox": true, "allowPty": true, "ripgrep": {"command": "rg"}, "socatPath": "/usr/bin/socat"
}`

func TestSRTSettingsOfTheNetworkHold(t *testing.T) {
	h := newHome(t)
	h.srt(srtSettings, "curl -sS --fail http://allowed.test/x").ok().says("hello from allowed.test/x")
	r := h.srt(srtSettings, "curl -sS http://also.allowed.test/; curl -sS --fail http://denied.test/").refused()
	r.says("use allowed.test")
	for _, want := range []string{"\n<sandbox_violations>\n", "\ndeny network-outbound also.allowed.test:80 (use allowed.test)\n",
		"\ndeny network-outbound denied.test:80 (not-allowed)\n", "\n</sandbox_violations>\n"} {
		if !strings.Contains(r.err, want) {
			t.Errorf("%q is missing of\n%s", want, r.err)
		}
	}
	if strings.Contains(r.out, "sandbox_violations") {
		t.Errorf("the violations are on standard output: %s", r.out)
	}
	if n := len(r.events); n != 2 {
		t.Errorf("%d events: %s", n, describe(r.events))
	}
}

func TestSRTSettingsOfFilesHold(t *testing.T) {
	h := newHome(t)
	for name, text := range map[string]string{"secret/key": "k", "secret/open": "o", "private": "p", "work/keep": "keep", "work/k[e]y": "key", "work/.git/config": "[core]\n",
		"work/src/a.pem": "pem"} {
		h.write(name, text)
	}
	const settings = srtSettings
	script := `cat ~/secret/open && echo x > new && ! cat ~/secret/key && ! cat ~/private && ! (echo x > ~/outside) && ! (echo x > keep) && ! (echo x > 'k[e]y') && ! (echo x >> .git/config)`
	r := h.srt(settings, script).ok()
	if h.read("work/new") != "x\n" || h.read("work/keep") != "keep" || h.read("work/k[e]y") != "key" || h.read("work/.git/config") != "[core]\n" || h.read("outside") != "" {
		t.Errorf("%s%s", r.out, r.err)
	}
	if !strings.Contains(r.err, "private: Permission denied") {
		t.Errorf("a denied read is something else than EACCES:\n%s", r.err)
	}
	globs := `{"network": {"allowedDomains": []}, "filesystem": {"denyRead": [], "allowWrite": ["**/*.pem"], "denyWrite": []}}`
	h.srt(globs, "echo y > src/a.pem && ! (echo y > other)").ok()
	if h.read("work/src/a.pem") != "y\n" {
		t.Error("a pattern of allowWrite opens nothing")
	}
	git := `{"network": {"allowedDomains": []}, "filesystem": {"denyRead": [], "allowWrite": ["."], "denyWrite": [], "allowGitConfig": true}}`
	h.srt(git, "echo '# x' >> .git/config").ok()
	off := `{"network": {"allowedDomains": []}, "filesystem": {"disabled": true, "denyRead": ["~/secret"], "allowWrite": []}}`
	h.srt(off, "cat ~/secret/key && echo x > ~/outside").ok()
	if h.read("outside") != "x\n" {
		t.Error("filesystem.disabled is not heeded")
	}
	deep := `{"network": {"allowedDomains": []}, "filesystem": {"denyRead": [], "allowWrite": ["."], "denyWrite": []}, "mandatoryDenySearchDepth": 6}`
	h.write("work/a/b/c/d/.mcp.json", "{}")
	h.srt(deep, "! (echo x > a/b/c/d/.mcp.json)").ok()
	if h.read("work/a/b/c/d/.mcp.json") != "{}" {
		t.Error("mandatoryDenySearchDepth is not heeded")
	}
}

func TestSRTSettingsOfSocketsHold(t *testing.T) {
	h := newHome(t)
	listed, other := h.serveUnix("sockets/a.sock"), h.serveUnix("sockets/b.sock")
	connect := func(s *hostSocket) string {
		return `python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).connect("` + s.path + `")'`
	}
	settings := `{"network": {"allowedDomains": [], "allowUnixSockets": ["` + listed.path + `"]}, "filesystem": {"denyRead": [], "allowWrite": []}}`
	h.srt(settings, connect(listed)).ok()
	h.srt(settings, connect(other)).refused()
	all := `{"network": {"allowedDomains": [], "allowAllUnixSockets": true}, "filesystem": {"denyRead": [], "allowWrite": []}}`
	h.srt(all, connect(other)).ok()
}

func TestSRTCommandLine(t *testing.T) {
	h := newHome(t)
	h.env = append(h.env, "ORDINARY=o", "MY_TOKEN=t", "QUIET=")
	for line, want := range map[string]string{
		"srt echo a  b":    "a b\n",
		"srt -- echo -c x": "-c x\n",
		"srt -c|echo $ORDINARY-$MY_TOKEN-$((1+1))":        "o--2\n",
		"srt sh -c|printf '%s,' \"$@\"|sh|b  c|d'e|$HOME": "b  c,d'e,$HOME,",
	} {
		first, rest, _ := strings.Cut(line, "|")
		args := strings.Fields(first)
		if rest != "" {
			args = append(args, strings.Split(rest, "|")...)
		}
		if r := h.sallyport(args...).ok(); r.out != want || r.err != "" {
			t.Errorf("%s: %q %q", line, r.out, r.err)
		}
	}
	if r := h.sallyport("srt", "-c", "exit 7"); r.code != 7 {
		t.Errorf("status %d", r.code)
	}
	// Without settings: no network, no write but to the private directories.
	h.sallyport("srt", "-c", "! curl -sS --fail http://allowed.test/ && ! touch x && touch /tmp/x").ok()
	h.sallyport("srt").badHost("no command")
	h.sallyport("srt", "-s", "none.json", "true").badHost("none.json")
	// The file of the home directory, as it is; a debug run says what it makes of it.
	h.write(".srt-settings.json", srtSettings)
	h.sallyport("srt", "curl", "-sS", "--fail", "http://allowed.test/x").ok().says("hello from allowed.test/x")
	if r := h.sallyport("srt", "-d", "true").ok(); !strings.Contains(r.err, "- allowed.test") || !strings.Contains(r.err, ".srt-settings.json:3") {
		t.Errorf("-d: %s", r.err)
	}
	if r := h.srt(srtSettings, "curl -sS --fail http://quiet.test/").refused(); strings.Contains(r.err, "sandbox_violations") {
		t.Errorf("what is ignored is shown: %s", r.err)
	}
	// The user's own policy and the project's are for 'run'.
	h.write("work/.sallyport.yaml", "network: {deniedDomains: ['*']}\n")
	h.sallyport("srt", "curl", "-sS", "--fail", "http://allowed.test/x").ok()
}

func TestSRTRefusesWhatIsNotBuilt(t *testing.T) {
	h := newHome(t)
	for part, say := range map[string]string{
		`"network": {"allowedDomains": [], "tlsTerminate": {}}`:                                                     "network.tlsTerminate is not supported yet",
		`"network": {"allowedDomains": [], "mitmProxy": {"socketPath": "/x", "domains": ["a.b"]}}`:                  "network.mitmProxy is not supported yet",
		`"network": {"allowedDomains": [], "httpProxyPort": 3128}`:                                                  "network.httpProxyPort is not supported yet",
		`"network": {"allowedDomains": [], "socksProxyPort": 1080}`:                                                 "network.socksProxyPort is not supported yet",
		`"network": {"allowedDomains": [], "requireHostMatch": true}`:                                               "network.requireHostMatch is not supported yet",
		`"network": {"allowedDomains": [], "refuseOpaqueTunnels": true}`:                                            "network.refuseOpaqueTunnels is not supported yet",
		`"network": {"allowedDomains": [], "stripResponseHeaders": ["x"]}`:                                          "network.stripResponseHeaders is not supported yet",
		`"credentials": {"files": [{"path": "x", "mode": "mask"}]}`:                                                 "credentials.files.mask is not supported yet",
		`"credentials": {"envVars": [{"name": "X", "mode": "mask"}]}`:                                               "credentials.envVars.mask is not supported yet",
		`"credentials": {"awsPairs": [{"accessKeyIdVar": "A", "secretAccessKeyVar": "B", "sessionTokenVar": "C"}]}`: "credentials.awsPairs is not supported yet",
	} {
		h.sallyport("srt", "-s", h.write("settings.json", "{"+part+"}"), "touch", "started").badHost(say)
		h.notStarted()
	}
	if r := h.sallyport("srt", "-s", h.write("settings.json", `{"network": {"filterRequest": 1}}`), "true"); r.code != 125 || !strings.Contains(r.err, "unknown key") {
		t.Errorf("%d %s", r.code, r.err)
	}
}

func TestSRTCredentialsAreDenied(t *testing.T) {
	h := newHome(t)
	h.write("token", "t")
	h.env = append(h.env, "PLAIN=p", "GIVEN=g")
	settings := `{"network": {"allowedDomains": []}, "filesystem": {"denyRead": [], "allowWrite": []}, "git": {"safeDirectories": ["/srv/x"]},
	  "credentials": {"files": [{"path": "~/token", "mode": "deny"}], "envVars": [{"name": "GIVEN", "mode": "deny"}]}}`
	r := h.srt(settings, `! cat ~/token 2>/dev/null; echo "$PLAIN-$GIVEN-"; git config --get-all safe.directory`).ok()
	if r.out != "p--\n/srv/x\n" {
		t.Errorf("%q %s", r.out, r.err)
	}
}

// The trust of projects is decided outside: a sandbox neither reads nor makes it.
func TestTheTrustStoreIsOutOfReach(t *testing.T) {
	h := newHome(t)
	h.write("work/.sallyport.yaml", "network: {allowedDomains: [allowed.test]}\nfilesystem: {denyRead: [hidden]}\n")
	h.write("work/hidden", "h")
	try := func() *result { return h.runWith([]string{"-q"}, "curl", "-sS", "--fail", "http://allowed.test/x") }
	try().refused()
	h.run("cat", "hidden").refused()
	h.run(binary, "policy", "trust").refused()
	try().refused()
	h.sallyport("policy", "trust").ok()
	try().ok()
	store := filepath.Join(h.dir, ".local/state/sallyport/trust")
	if info, err := os.Stat(store); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	h.sh("! cat " + store + " && ! (echo x > " + store + ") && cat .sallyport.yaml && ! (echo >> .sallyport.yaml)").ok()
	try().ok()
}

func TestSRTTakesSettingsWhileTheCommandRuns(t *testing.T) {
	h := newHome(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString(`{"network": {"allowedDomains": ["allowed.test"], "deniedDomains": []}, "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []}}` + "\n"); err != nil {
		t.Fatal(err)
	}
	h.extra = []*os.File{r}
	h.sallyport("srt", "--control-fd", "3", "-c", `for i in $(seq 200); do curl -s --fail http://allowed.test/x && exit 0; sleep 0.1; done; exit 1`).
		ok().says("hello from allowed.test/x")
	h.extra = nil
	h.sallyport("srt", "--control-fd", "9", "true").badHost("--control-fd 9")
}
