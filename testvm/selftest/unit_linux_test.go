package selftest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	unitFolder = "/etc/systemd/system"
	agentUnit  = "sallyport-agent.service"
	agentFiles = "../../internal/agent/systemd"
	binFolder  = "/usr/local/bin"
	installed  = binFolder + "/sallyport"
)

// service is the agent as its units start it.
type service struct{ t *testing.T }

// installAgent puts the agent and its units where docs/agent.md says, and starts them.
func installAgent(t *testing.T) service {
	t.Helper()
	if _, init, _ := parts(t); init != "systemd" {
		t.Skip("this machine has no service manager")
	}
	if os.Geteuid() != 0 {
		t.Skip("units are root's to install")
	}
	units, err := filepath.Glob(agentFiles + "/*")
	if err != nil || len(units) < 2 {
		t.Fatalf("units %q, %v", units, err)
	}
	s := service{t}
	t.Cleanup(func() { s.uninstall(units) })
	s.run("install", "-m", "755", "-t", binFolder, "/payload/bin/sallyport", "/payload/bin/sallyport-agent")
	s.run("install", append([]string{"-m", "644", "-t", unitFolder}, units...)...)
	s.run("systemctl", "daemon-reload")
	s.run("systemctl", "start", "sallyport-agent.socket", agentUnit)
	return s
}

// uninstall leaves the machine to the tests that come after as it was.
func (s service) uninstall(units []string) {
	s.run("systemctl", "stop", "sallyport-agent.socket", agentUnit)
	s.run(installed, "agent", "--remove")
	for _, path := range units {
		if err := os.Remove(filepath.Join(unitFolder, filepath.Base(path))); err != nil {
			s.t.Error(err)
		}
	}
	s.run("systemctl", "daemon-reload")
	if err := errors.Join(os.Remove(installed), os.Remove(installed+"-agent")); err != nil {
		s.t.Error(err)
	}
}

func (s service) run(name string, args ...string) string {
	s.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		log, _ := exec.Command("journalctl", "--no-pager", "-n", "30", "-u", agentUnit).Output()
		s.t.Fatalf("%s %q: %v\n%s\n%s", name, args, err, out, log)
	}
	return strings.TrimSpace(string(out))
}

func (s service) pid() string {
	return s.run("systemctl", "show", "--property=MainPID", "--value", agentUnit)
}

// shell is a run of an ordinary user, told line by line what to do.
type shell struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err strings.Builder
}

// script writes where it may not, once for each line it reads.
const script = `echo started; while read -r name; do echo x >"/usr/denied-$name"; echo "tried $name"; done; exit 7`

func asOrdinary(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("sallyport", args...)
	cmd.Dir = filepath.Join(dir, "project")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}}
	return cmd
}

func startShell(t *testing.T, dir string) *shell {
	t.Helper()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("require: {tier: trace}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, cmd: asOrdinary(dir, "run", "--policy", policy, "--", "sh", "-c", script)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr, s.out = &s.err, bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // ended, if all went well
	s.hear("started")
	return s
}

func (s *shell) hear(want string) {
	s.t.Helper()
	line, err := s.out.ReadString('\n')
	if strings.TrimSpace(line) != want {
		s.in.Close()
		s.t.Fatalf("the command says %q, %v (%v)\n%s", line, err, s.cmd.Wait(), s.err.String())
	}
}

// try has the command attempt something that is refused.
func (s *shell) try(name string) {
	s.t.Helper()
	fmt.Fprintln(s.in, name)
	s.hear("tried " + name)
}

// attempts are those that the user is shown, with how often, and how many were lost.
func attempts(t *testing.T, dir string) (seen map[string]int, lost int) {
	t.Helper()
	out, err := asOrdinary(dir, "audit", "query", "--all", "-o", "json").Output()
	if err != nil {
		t.Fatalf("audit query: %v", err)
	}
	seen = map[string]int{}
	for line := range strings.Lines(string(out)) {
		var e struct {
			Sandbox struct{ Tier string }
			Object  struct{ Path string }
			Count   int
			Lost    int `json:"lost_since_last"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lost += e.Lost
		if name, ok := strings.CutPrefix(e.Object.Path, "/usr/denied-"); ok {
			seen[name] += e.Count
			if e.Sandbox.Tier != "trace" && e.Sandbox.Tier != "lsm" {
				t.Errorf("%s is of tier %q", e.Object.Path, e.Sandbox.Tier)
			}
		}
	}
	return seen, lost
}

// TestTheServiceManagerEndsNoSandbox: whatever it does to the agent, sandboxes go
// on, enforced as before, and what they try is recorded, or counted as lost.
func TestTheServiceManagerEndsNoSandbox(t *testing.T) {
	s := installAgent(t)
	dir := userHome(t)
	if said, err := asOrdinary(dir, "doctor").CombinedOutput(); err != nil || !strings.Contains(string(said), "trace") {
		t.Errorf("doctor: %v\n%s", err, said)
	}
	sh := startShell(t, dir)
	sh.try("before")
	var want []string
	for _, act := range []struct {
		name string
		do   func()
	}{
		{"restart", func() { s.run("systemctl", "restart", agentUnit) }},
		{"kill", func() {
			before := s.pid()
			s.run("systemctl", "kill", "--signal=KILL", agentUnit)
			sh.try("away")
			waitFor(t, "the agent is started again", func() bool {
				now := s.pid()
				return now != "0" && now != before && s.run("systemctl", "show", "--property=ActiveState", "--value", agentUnit) == "active"
			})
		}},
		{"reload", func() { s.run("systemctl", "reload", agentUnit) }},
	} {
		before := s.pid()
		act.do()
		if after := s.pid(); (after == before) != (act.name == "reload") {
			t.Errorf("%s: the agent was process %s and is %s", act.name, before, after)
		}
		sh.try(act.name)
		want = append(want, act.name)
	}
	sh.in.Close()
	_, _ = io.Copy(io.Discard, sh.out)
	if err := sh.cmd.Wait(); sh.cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("the run ended with %v\n%s", err, sh.err.String())
	}
	seen, lost := attempts(t, dir)
	missing := 0
	for _, name := range append(want, "before", "away") {
		if seen[name] > 1 {
			t.Errorf("%s is recorded %d times", name, seen[name])
		}
		missing += 1 - min(seen[name], 1)
	}
	if missing > lost {
		t.Errorf("recorded: %v; %d are missing, %d said to be lost", seen, missing, lost)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
