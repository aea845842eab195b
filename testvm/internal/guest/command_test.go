package guest

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

var tester = user{Name: "tester", UID: 1000, GID: 1001, Home: "/home/tester"}

func TestPlanPlain(t *testing.T) {
	job := report.Job{Env: []string{"M=1"}, UserWrap: []string{"aa-exec", "--"}, Steps: []report.Step{
		{Argv: []string{"a", "b"}, Dir: "/payload", Env: []string{"S=2"}},
		{Argv: []string{"a", "b"}, User: true},
	}}
	asRoot := plan(job, 0, tester)
	if asRoot.as != root || asRoot.dir != "/payload" || asRoot.unit != "" || !reflect.DeepEqual(asRoot.argv, []string{"a", "b"}) {
		t.Errorf("root's: %+v", asRoot)
	}
	for _, want := range []string{"HOME=/root", "USER=root", "M=1", "S=2"} {
		if !slices.Contains(asRoot.env, want) {
			t.Errorf("root's environment lacks %s: %q", want, asRoot.env)
		}
	}
	asUser := plan(job, 1, tester)
	if asUser.as != tester || asUser.dir != "/" || !reflect.DeepEqual(asUser.argv, []string{"aa-exec", "--", "a", "b"}) {
		t.Errorf("user's: %+v", asUser)
	}
	if !slices.Contains(asUser.env, "HOME=/home/tester") || slices.Contains(asUser.env, "S=2") {
		t.Errorf("user's environment: %q", asUser.env)
	}
}

func TestPlanSystemd(t *testing.T) {
	job := report.Job{Systemd: true, UserWrap: []string{"wrap"}, Steps: []report.Step{
		{Argv: []string{"a"}, Env: []string{"S=2"}}, {Argv: []string{"a", "--user"}, User: true, Dir: "/payload"},
	}}
	asRoot := plan(job, 0, tester)
	line := strings.Join(asRoot.argv, " ")
	if !strings.HasPrefix(line, "systemd-run ") || !strings.HasSuffix(line, " -- a") || strings.Contains(line, "--user") {
		t.Errorf("root's: %s", line)
	}
	for _, want := range []string{"--wait", "--pipe", "--property=Delegate=yes", "--setenv=S=2", "--working-directory=/", "--unit=testvm-step-0.service"} {
		if !slices.Contains(asRoot.argv, want) {
			t.Errorf("root's lacks %s: %s", want, line)
		}
	}
	asUser := plan(job, 1, tester)
	line = strings.Join(asUser.argv, " ")
	if !strings.HasSuffix(line, " -- wrap a --user") || !slices.Contains(asUser.argv[:slices.Index(asUser.argv, "--")], "--user") {
		t.Errorf("user's: %s", line)
	}
	if !slices.Contains(asUser.env, "XDG_RUNTIME_DIR=/run/user/1000") || !slices.Contains(asUser.argv, "--setenv=XDG_RUNTIME_DIR=/run/user/1000") {
		t.Errorf("user's environment: %q", asUser.env)
	}
	if got := asUser.signal("QUIT"); !reflect.DeepEqual(got, []string{"systemctl", "kill", "--signal=QUIT", "testvm-step-1.service", "--user"}) {
		t.Errorf("signal = %q", got)
	}
	if slices.Contains(asRoot.signal("KILL"), "--user") {
		t.Error("root's unit is signalled through the user's manager")
	}
}

func TestFindUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\ntester:x:1000:1001::/home/tester:/bin/bash\nodd:x:1002:many::/:/bin/sh\n"
	if got, err := findUser(passwd, 1000); err != nil || got != tester {
		t.Errorf("findUser = %+v, %v", got, err)
	}
	for _, uid := range []uint32{1001, 1002} {
		if got, err := findUser(passwd, uid); err == nil {
			t.Errorf("findUser(%d) = %+v", uid, got)
		}
	}
}

func FuzzFindUser(f *testing.F) {
	f.Add("tester:x:1000:1000::/home/tester:/bin/bash\n")
	f.Add("a:b:1000:-1:::\n:::::::\n")
	f.Fuzz(func(t *testing.T, passwd string) {
		if u, err := findUser(passwd, 1000); err == nil && u.UID != 1000 {
			t.Errorf("findUser = %+v", u)
		}
	})
}
