package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/testvm"
)

// best is the recorder of an agent that may choose: fexit takes bpf_loop (Linux
// 5.17), and Debian's kernels preempt their own functions from 6.18 on. Outside test
// VMs it is whatever doctor says.
func (h *home) best() string {
	h.t.Helper()
	guest, err := testvm.Guest()
	if err != nil {
		h.t.Fatal(err)
	}
	series, _, _ := strings.Cut(guest.Machine, "-")
	switch {
	case !guest.Inside():
		return h.recorder()
	case series == testvm.Linux61.Name, series == testvm.Linux612.Name:
		return "fexit"
	}
	return "sys_exit"
}

// doctorSays is the line about the agent.
func (h *home) doctorSays() string {
	h.t.Helper()
	out, _ := h.command(context.Background(), "doctor").Output() // less than it could be
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "recorded by") {
			return line
		}
	}
	h.t.Fatalf("doctor says\n%s", out)
	return ""
}

func (h *home) recorder() string {
	h.t.Helper()
	_, by, _ := strings.Cut(h.doctorSays(), "recorded by ")
	by, _, _ = strings.Cut(by, ";")
	by, _, _ = strings.Cut(by, " ")
	return by
}

// sourceOf has a file refused, and says who gave its name.
func (h *home) sourceOf(name string) string {
	h.t.Helper()
	h.run("sh", "-c", "echo x >/etc/"+name)
	for _, e := range h.machineEvents() {
		if string(e.Object.Path) == "/etc/"+name && e.Verdict.Denied() && e.Count == 1 {
			return e.Object.PathSource
		}
	}
	h.t.Errorf("/etc/%s: not recorded", name)
	return ""
}

var sourceBy = map[string]string{"fexit": "kernel", "sys_exit": "user"}

func TestAnAgentRecordsByFexitWhereTheKernelTakesIt(t *testing.T) {
	began := time.Now()
	m := newMachine(t)
	t.Logf("the agent started in %v", time.Since(began))
	h := m.home()
	best := h.best()
	if by := h.recorder(); by != best || h.sourceOf("refused") != sourceBy[by] {
		t.Errorf("recorded by %s, want %s: names are the %s's; doctor says %s", by, best, h.sourceOf("again"), h.doctorSays())
	}
	if best == "sys_exit" && !strings.Contains(h.doctorSays(), "sys_exit (") {
		t.Errorf("doctor does not say why: %s", h.doctorSays())
	}
}

func TestTheRecorderStaysWhileThereIsASandbox(t *testing.T) {
	began := time.Now()
	m := newMachine(t, "--recorder", "sys_exit")
	t.Logf("the agent started in %v", time.Since(began))
	h := m.home()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	h.usePolicy("require: {tier: trace}\n")
	cmd := h.command(ctx, "run", "--policy", h.policy, "--", "sh", "-c", "touch started; until [ -e end ]; do sleep 0.1; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command runs", func() bool { return exists(h.work + "/started") })
	m.flags = nil
	m.kill()
	m.start()
	if by := h.recorder(); by != "sys_exit" || h.sourceOf("kept") != "user" {
		t.Errorf("with a sandbox that is recorded by sys_exit: %s", h.doctorSays())
	}
	h.write("work/end", "")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	m.kill()
	m.start()
	if by := h.recorder(); by != h.best() || h.sourceOf("anew") != sourceBy[by] {
		t.Errorf("without a sandbox: %s", h.doctorSays())
	}
	if h.best() != "fexit" {
		return
	}
	m.flags = []string{"--recorder", "sys_exit"}
	m.kill()
	m.start()
	if by := h.recorder(); by != "sys_exit" || h.sourceOf("back") != "user" {
		t.Errorf("fexit is not wanted any more: %s", h.doctorSays())
	}
}
