package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestDeniedCredentialsAreHiddenAndWithheld(t *testing.T) {
	p := mustPolicy(t, testEnv, `{credentials: {files: [{path: ~/token, mode: deny}], envVars: [{name: API, mode: deny}]}, env: {pass: [API, OTHER]}, filesystem: {denyRead: []}}`)
	checkFiles(t, p, "read /home/u/token deny p0.yaml:1\nwrite /home/u/token deny p0.yaml:1")
	if env, _ := p.Env().Apply([]string{"API=1", "OTHER=2"}); !slices.Equal(env, []string{"OTHER=2"}) {
		t.Errorf("%v", env)
	}
	// The built-in list stays as it is: these come besides.
	checkFiles(t, mustPolicy(t, testEnv, `credentials: {files: [{path: x, mode: deny}]}`), "read /home/u/.ssh/id deny builtin:secrets:~/.ssh")
	for _, text := range []string{`{files: [{path: x}]}`, `{files: [{mode: deny}]}`, `{envVars: [{name: A}]}`, `{envVars: [{name: "A B", mode: deny}]}`} {
		if _, err := Parse(Source{Name: "p", Data: []byte("credentials: " + text)}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestSafeDirectoriesReachGitThroughTheEnvironment(t *testing.T) {
	p := mustPolicy(t, testEnv, `git: {safeDirectories: [., /srv/repo]}`)
	want := map[string]string{"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": testEnv.Cwd,
		"GIT_CONFIG_KEY_1": "safe.directory", "GIT_CONFIG_VALUE_1": "/srv/repo"}
	for name, value := range want {
		if got := p.Env().Set[name]; got != value {
			t.Errorf("%s=%s, want %s", name, got, value)
		}
	}
	if p.DecideFile(event.FileWrite, "/srv/repo/x").Allowed() {
		t.Error("it opens something")
	}
}

func TestIgnoredViolationsAreTheCommandsOrEverybodys(t *testing.T) {
	p := mustPolicy(t, testEnv, `ignoreViolations: {"*": [/usr/bin], "git push": [github.com, /nix]}`)
	for line, want := range map[string]bool{"make deny x /usr/bin/a": true, "git push origin deny /nix/store": true, "make deny /nix/store": false,
		"git pull deny github.com:22": false, "git push deny gitlab.com:22": false} {
		command, violation, _ := strings.Cut(line, " deny ")
		if got := p.Ignores(command, "deny "+violation); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestStrictPoliciesAskNobody(t *testing.T) {
	req := mustTarget("a.example.com:443")
	if d := mustPolicy(t, testEnv, `ask: {via: [tty]}`).DecideNet(req); !d.Ask {
		t.Errorf("asking is on, and nobody is asked: %+v", d)
	}
	if d := mustPolicy(t, testEnv, `{ask: {via: [tty]}, network: {strictAllowlist: true}}`).DecideNet(req); d.Ask || d.Allowed() {
		t.Errorf("%+v", d)
	}
}
