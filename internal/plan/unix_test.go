package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

const socketTree = homeTree + `
/run/docker.sock=
/run/user/7/bus=
/run/user/7/gnupg/S.gpg-agent=
/var/run -> /run
/var/lib/db/sock=
/home/u/.gnupg/S.gpg-agent=
/home/u/w/db.sock=
/home/u/w/sub/db.sock=
/home/u/w/text
`

func TestListedSocketsAreMountedWhereTheyWouldNotBeSeen(t *testing.T) {
	for name, test := range map[string]struct {
		list   string
		mount  string // "" for none
		listed string
		note   string
	}{
		"in a private directory":         {"/run/docker.sock", "--ro-bind /run/docker.sock /run/docker.sock", "/run/docker.sock", ""},
		"by a link":                      {"/var/run/docker.sock", "--ro-bind /run/docker.sock /run/docker.sock", "/run/docker.sock", ""},
		"in a hidden directory":          {"~/.gnupg/S.gpg-agent", "--ro-bind /home/u/.gnupg/S.gpg-agent /home/u/.gnupg/S.gpg-agent", "/home/u/.gnupg/S.gpg-agent", ""},
		"where the command may write":    {"~/w/db.sock", "--ro-bind /home/u/w/db.sock /home/u/w/db.sock", "/home/u/w/db.sock", ""},
		"in plain sight":                 {"/var/lib/db/sock", "", "/var/lib/db/sock", ""},
		"a directory in a private one":   {"/run/user/7/gnupg", "--ro-bind /run/user/7/gnupg /run/user/7/gnupg", "/run/user/7/gnupg", ""},
		"a pattern":                      {"/run/user/*/bus", "--ro-bind /run/user/7/bus /run/user/7/bus", "/run/user/7/bus", ""},
		"to come, in plain sight":        {"/var/lib/db/later", "", "/var/lib/db/later", ""},
		"absent in a private directory":  {"/run/podman.sock", "", "", "does not exist"},
		"absent where it could be made":  {"~/w/later", "", "", "does not exist"},
		"a file":                         {"~/w/text", "", "", "is no socket"},
		"everything":                     {"/", "", "", "is the sandbox's own"},
		"a private directory":            {"/run", "", "", "is the sandbox's own"},
		"the runtime directory":          {"/run/user/7", "", "", "is the sandbox's own"},
		"above the runtime directory":    {"/run/user", "", "", "is the sandbox's own"},
		"a directory it may write":       {"~/w/sub", "", "", "may write there"},
		"a directory above a write root": {"~", "", "", "may write there"},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustMake(t, testInput(t, newTree(socketTree), "network: {allowUnixSockets: ['"+test.list+"']}"))
			args := strings.Join(p.BwrapArgs(), " ")
			if test.mount != "" && !strings.Contains(args, test.mount) {
				t.Errorf("not mounted: %s", args)
			}
			if test.mount == "" && test.listed != "" && strings.Contains(args, test.listed) {
				t.Errorf("mounted for nothing: %s", args)
			}
			var listed []string
			for _, s := range p.UnixSockets {
				listed = append(listed, s.Path)
			}
			if got := strings.Join(listed, " "); got != test.listed {
				t.Errorf("listed %q, want %q", got, test.listed)
			}
			noted := slices.ContainsFunc(p.Notes, func(n string) bool { return test.note != "" && strings.Contains(n, test.note) })
			if noted != (test.note != "") {
				t.Errorf("notes %q, want %q", p.Notes, test.note)
			}
			if accessAt(p.Mounts, "/home/u/w/text") != ReadWrite || accessAt(p.Mounts, "/run/user/7/other") == ReadWrite {
				t.Error("changes what may be written")
			}
		})
	}
}

func TestDenialOfReadingASocketWins(t *testing.T) {
	p := mustMake(t, testInput(t, newTree(socketTree), "network: {allowUnixSockets: [~/w/db.sock]}\nfilesystem: {denyRead: [~/w/db.sock]}"))
	if len(p.UnixSockets) != 0 || accessAt(p.Mounts, "/home/u/w/db.sock") != Hidden {
		t.Errorf("%v", p.UnixSockets)
	}
}

// What only has the name of a listed socket may be a link of the payload's to
// another.
func TestOnlySocketsThatCannotBeReplacedAreReached(t *testing.T) {
	p := mustMake(t, testInput(t, newTree(socketTree), "network: {allowUnixSockets: [~/w/db.sock, ~/w/later, /run/user/7/gnupg]}"))
	for path, want := range map[string]string{
		"/home/u/w/db.sock":             "allow rule-allowed /etc/p.yaml:1",
		"/home/u/w/later":               "deny not-allowed /etc/p.yaml:1",
		"/home/u/w/sub/db.sock":         "deny not-allowed builtin:unix-socket",
		"/run/user/7/gnupg/S.gpg-agent": "allow rule-allowed /etc/p.yaml:1",
		"/run/user/7/gnupg2":            "deny not-allowed builtin:unix-socket",
		"":                              "deny request-invalid builtin:invalid-request",
	} {
		if got := verdict(p.DecideUnix(path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func verdict(d policy.Decision) string {
	return d.Verdict.String() + " " + d.Reason.String() + " " + d.Rule.String()
}

func TestAllowingAllSocketsTakesTheSupervisorOut(t *testing.T) {
	p := mustMake(t, testInput(t, newTree(socketTree), "network: {allowAllUnixSockets: true}"))
	if strings.Contains(p.Seccomp.String(), "supervise") || verdict(p.DecideUnix("/x")) != "allow rule-allowed /etc/p.yaml:1" {
		t.Error(p.Seccomp)
	}
	if p := mustMake(t, testInput(t, newTree(socketTree), "")); !strings.Contains(p.Seccomp.String(), "supervise connect EACCES: connect\n") {
		t.Error(p.Seccomp)
	}
}
