package policy

import (
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestUnixSocketsAreReachedOnlyWhenListed(t *testing.T) {
	const list = `network: {allowUnixSockets: [/run/docker.sock, ~/agents, sock, "/srv/*/s", {path: "/a[b]", literal: true}]}`
	for _, c := range []struct{ name, text, path, want string }{
		{"nothing is listed", "", "/run/docker.sock", "deny not-allowed builtin:unix-socket"},
		{"listed", list, "/run/docker.sock", "allow rule-allowed p0.yaml:2"},
		{"below a listed directory", list, "/home/u/agents/one/two", "allow rule-allowed p0.yaml:2"},
		{"in the working directory", list, "/home/u/proj/sock", "allow rule-allowed p0.yaml:2"},
		{"a pattern", list, "/srv/db/s", "allow rule-allowed p0.yaml:2"},
		{"a literal name", list, "/a[b]", "allow rule-allowed p0.yaml:2"},
		{"a name that starts alike", list, "/run/docker.sock2", "deny not-allowed builtin:unix-socket"},
		{"the directory above", list, "/home/u", "deny not-allowed builtin:unix-socket"},
		{"another spelling", list, "/run//docker.sock", "deny request-invalid builtin:invalid-request"},
		{"no path", list, "", "deny request-invalid builtin:invalid-request"},
		{"an empty list", `network: {allowUnixSockets: []}`, "/x", "deny not-allowed builtin:unix-socket"},
		{"all", `network: {allowAllUnixSockets: true}`, "/x", "allow rule-allowed p0.yaml:2"},
		{"not all", `network: {allowAllUnixSockets: false}`, "/x", "deny not-allowed builtin:unix-socket"},
	} {
		d := mustPolicy(t, testEnv, "mandatoryDenySearchDepth: 3\n"+c.text).DecideUnix(c.path)
		if got := d.Verdict.String() + " " + d.Reason.String() + " " + d.Rule.String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestUnixSocketFixesAreProposedButForSecrets(t *testing.T) {
	p := mustPolicy(t, testEnv)
	if got, want := p.DecideUnix("/run/docker.sock").Fix, "network.allowUnixSockets: [/run/docker.sock]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := p.DecideUnix("/home/u/.gnupg/S.gpg-agent").Fix; got != "" {
		t.Errorf("proposes a secret: %q", got)
	}
}

func TestUnixSocketListsUniteAndTheLastWordOnAllCounts(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {allowUnixSockets: [/a], allowAllUnixSockets: true}`,
		"# one\nnetwork: {allowUnixSockets: [/b], allowAllUnixSockets: false}")
	u := p.Unix()
	if u.All || u.AllRule.String() != "p1.yaml:2" || len(u.Sockets) != 2 || u.Sockets[1].Path != "/b" {
		t.Errorf("%+v", u)
	}
	u.Sockets[0].Path = "/changed"
	if d := p.DecideUnix("/a"); d.Verdict != event.Allow || p.Unix().Sockets[0].Path != "/a" {
		t.Error("a caller can change the policy")
	}
}
