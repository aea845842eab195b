package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

const policyLine = `{"network": {"allowedDomains": [%q]}, "filesystem": {}}`

// reaches connects from inside a running sandbox.
func (h *home) reaches(box, host string) bool {
	h.t.Helper()
	r := h.sallyport("exec", box, "--", "curl", "-sSf", "-m", "20", "http://"+host+"/")
	if r.code != 0 && r.code != 22 {
		h.t.Fatalf("curl %s: exit status %d\n%s%s", host, r.code, r.out, r.err)
	}
	return r.code == 0
}

// updates are the records of policies that came while a sandbox ran.
func (h *home) updates() (list []event.Event) {
	for _, e := range h.events() {
		if e.Operation == event.PolicyUpdate {
			list = append(list, e)
		}
	}
	return list
}

func TestSIGHUPReplacesThePolicyOfARunningSandbox(t *testing.T) {
	need(t, "curl")
	h := newHome(t).allow("allowed.test")
	r := h.start("box", "sleep", "631")
	update := func(policy string) event.Event {
		t.Helper()
		had := len(h.updates())
		if err := os.WriteFile(h.policy, []byte(policy), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := r.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the update to be recorded", func() bool { return len(h.updates()) > had })
		return h.updates()[had]
	}
	if !h.reaches(r.ID, "allowed.test") || h.reaches(r.ID, "git.test") {
		t.Fatal("the policy at the start does not hold")
	}
	first := update(`network: {allowedDomains: [git.test]}`)
	if h.reaches(r.ID, "allowed.test") || !h.reaches(r.ID, "git.test") {
		t.Error("the policy of SIGHUP does not hold")
	}
	bad := update(`network: {allowedDomains: [allowed.test], alowedDomains: []}`)
	if bad.Reason != event.RequestInvalid || !strings.Contains(string(bad.Detail), "not replaced") {
		t.Errorf("a bad policy is recorded as %+v", bad)
	}
	if h.reaches(r.ID, "allowed.test") || !h.reaches(r.ID, "git.test") {
		t.Error("a bad policy has changed something")
	}
	unbuilt := update(`{network: {allowedDomains: [allowed.test]}, mode: audit}`)
	if unbuilt.Reason != event.RequestInvalid || h.reaches(r.ID, "allowed.test") {
		t.Errorf("a policy that would be refused at a start is taken: %+v", unbuilt)
	}
	fixed := update(`{network: {allowedDomains: [allowed.test, git.test]}, filesystem: {allowWrite: [/]}}`)
	if !strings.Contains(string(fixed.Detail), "filesystem.allowWrite") {
		t.Errorf("what is fixed at the start is not said: %+v", fixed)
	}
	if !h.reaches(r.ID, "allowed.test") || !h.reaches(r.ID, "git.test") {
		t.Error("with something that is fixed, the rest of the policy does not hold")
	}
	if c := h.sallyport("exec", r.ID, "--", "touch", h.dir+"/opened"); c.code == 0 {
		t.Error("a file rule has changed")
	}
	h.sallyport("stop", r.ID).ok()
	r.exits(t, 143)
	for _, want := range []string{"alowedDomains", "stays as it was: filesystem.allowWrite"} {
		if !strings.Contains(r.err.String(), want) {
			t.Errorf("standard error does not say %q:\n%s", want, r.err.String())
		}
	}
	hashes := map[string]bool{}
	for _, e := range h.events() {
		hashes[e.Sandbox.PolicySHA256] = true
		if e.Verdict == event.Deny && e.Object.Host == "allowed.test" && e.Sandbox.PolicySHA256 != first.Sandbox.PolicySHA256 {
			t.Errorf("decided by another policy than the one recorded: %+v", e)
		}
	}
	if len(hashes) < 3 {
		t.Errorf("%d policies in the record, want 3", len(hashes))
	}
}

func TestPoliciesComeByAControlDescriptor(t *testing.T) {
	need(t, "curl")
	h := newHome(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	h.extra = []*os.File{read}
	r := h.startWith("box", []string{"--control-fd", "3"}, "sh", "-c", "ls -l /proc/self/fd > fds; sleep 632")
	read.Close()
	if h.reaches(r.ID, "allowed.test") {
		t.Fatal("there is a network without a policy")
	}
	say := func(line string) {
		t.Helper()
		had := len(h.updates())
		if _, err := fmt.Fprintln(write, line); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the update to be recorded", func() bool { return len(h.updates()) > had })
	}
	say(fmt.Sprintf(policyLine, "allowed.test"))
	if !h.reaches(r.ID, "allowed.test") || h.reaches(r.ID, "git.test") {
		t.Error("the first line does not hold")
	}
	say(`{"network": {"allowedDomains": ["git.test"]`)
	if !h.reaches(r.ID, "allowed.test") || h.reaches(r.ID, "git.test") {
		t.Error("a line with an error has changed something")
	}
	say(fmt.Sprintf("\n"+policyLine, "git.test"))
	if h.reaches(r.ID, "allowed.test") || !h.reaches(r.ID, "git.test") {
		t.Error("the third line does not hold, or the first still does")
	}
	write.Close()
	if !h.reaches(r.ID, "git.test") {
		t.Error("the policy went with its writer")
	}
	if list := h.updates(); len(list) != 3 || list[2].Object.Path != "control line 3" {
		t.Errorf("recorded:\n%s", describe(list))
	}
	for line := range strings.Lines(h.read("work/fds")) {
		if strings.Contains(line, "pipe:") && !strings.Contains(line, " 2 -> ") {
			t.Errorf("the command has the descriptor: %s", line)
		}
	}
}

func TestAControlDescriptorThatIsNoneIsRefused(t *testing.T) {
	h := newHome(t)
	dir, err := os.Open(h.work)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.extra = []*os.File{dir, null}
	for _, fd := range []string{"0", "2", "-1", "3", "4", "5", "6", "7", "8", "99"} {
		r := h.sallyport("run", "--control-fd", fd, "--", "touch", "ran")
		if _, err := os.Stat(filepath.Join(h.work, "ran")); r.code != 125 || err == nil {
			t.Errorf("descriptor %s: exit status %d, ran: %v\n%s", fd, r.code, err == nil, r.err)
		}
	}
}

// A terminal that goes away is not a wish for another policy.
func TestSIGHUPOfATerminalThatWentIsTheCommands(t *testing.T) {
	h := newHome(t)
	s := h.onScreen("sh", "-c", `trap 'echo hup > hup; exit 3' HUP; echo up; while :; do sleep 0.05; done`).wants("up")
	s.signal(syscall.SIGHUP)
	waitFor(t, "the policy to be read anew", func() bool { return len(h.updates()) == 1 })
	if h.read("work/hup") != "" {
		t.Error("SIGHUP reached the command, and its terminal is there")
	}
	s.slave.Close()
	s.master.Close()
	waitFor(t, "the command to be told", func() bool { return h.read("work/hup") != "" })
	<-s.ended
	if n := len(h.updates()); n != 1 {
		t.Errorf("%d updates, want 1", n)
	}
}

func TestAnUpdateGoesThroughTheAgent(t *testing.T) {
	need(t, "curl")
	h := newMachine(t).home().allow("allowed.test")
	r := h.start("box", "sleep", "633")
	if !ofKernel(r.Tier) || !h.reaches(r.ID, "allowed.test") {
		t.Fatalf("tier %s", r.Tier)
	}
	update := func(policy string) {
		t.Helper()
		had := len(h.updates())
		if err := os.WriteFile(h.policy, []byte(policy), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = r.Process.Signal(syscall.SIGHUP)
		waitFor(t, "the update to be recorded", func() bool { return len(h.updates()) > had })
	}
	update(`network: {allowedDomains: [git.test]}`)
	if h.reaches(r.ID, "allowed.test") || !h.reaches(r.ID, "git.test") {
		t.Error("the policy of SIGHUP does not hold")
	}
	// More than the agent takes: nothing changes.
	update("network: {allowedDomains: [allowed.test]}\n#" + strings.Repeat("x", 300<<10))
	if h.reaches(r.ID, "allowed.test") || !h.reaches(r.ID, "git.test") {
		t.Error("a policy that the agent refuses has changed something")
	}
	list := h.updates()
	if !strings.Contains(string(list[1].Detail), "the agent refused") {
		t.Errorf("recorded:\n%s", describe(list))
	}
	for _, e := range h.machineEvents() {
		if e.Verdict == event.Deny && e.Object.Host == "allowed.test" && e.Sandbox.PolicySHA256 != list[0].Sandbox.PolicySHA256 {
			t.Errorf("the machine's log has the denial under another policy: %+v", e)
		}
	}
}
