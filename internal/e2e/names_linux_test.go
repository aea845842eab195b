package e2e

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// lsmHome is a traceHome where the kernel decides about names.
func lsmHome(t *testing.T) *home {
	t.Helper()
	h := traceHome(t)
	testvm.Require(t, testvm.BPFLSM, testvm.BPFLSMUserns)
	out, _ := h.program(t.Context(), binary, "doctor", "--user", "65534:65534", "-o", "json").Output()
	var d struct{ Tier event.Tier }
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("doctor: %v\n%s", err, out)
	}
	if d.Tier < event.TierLSM {
		t.Fatalf("tier %s, though the kernel enforces what LSM programs say", d.Tier)
	}
	return h
}

// Refused, recorded once with who it was, and nothing on the host meanwhile.
func TestTheKernelKeepsAbsentNamesFromBeingMadeWithNoPlaceholder(t *testing.T) {
	h := lsmHome(t)
	owner := *h
	owner.ownedByUser().own(h.dir)
	owner.own(h.work)
	owner.write("work/plain", "x")
	owner.write("work/kept", "x")
	owner.usePolicy("filesystem:\n  allowWrite: [.]\n  denyWrite: [absent, deep/er/absent, kept]\n  denyRead: ['**/*.pem']\n")
	h.policy = owner.policy
	r := h.sh(`mkdir -p deep/er bare/objects bare/refs
		for p in .bashrc absent deep/er/absent k.pem bare/HEAD; do echo x > $p; done 2>/dev/null
		ln plain .zshrc; ln -s plain .envrc; mv deep away
		find . | sort`).ok()
	for _, p := range []string{".bashrc", "absent", "k.pem", "bare/HEAD", ".zshrc", ".envrc", "away"} {
		if strings.Contains("\n"+r.out, "\n./"+p+"\n") {
			t.Errorf("%s is there:\n%s", p, r.out)
		}
	}
	want := map[string]event.Operation{".bashrc": event.FileCreate, "absent": event.FileCreate, "deep/er/absent": event.FileCreate,
		"k.pem": event.FileCreate, "bare/HEAD": event.FileCreate, "plain": event.FileLink, ".envrc": event.FileCreate, "deep": event.FileRename}
	for _, e := range r.events {
		name := strings.TrimPrefix(string(e.Object.Path), h.work+"/")
		op, ok := want[name]
		p := e.Process
		if !ok || op != e.Operation || e.Layer != event.LayerLSM || e.Count != 1 || e.Errno != "EACCES" || e.Object.PathSource != "kernel" ||
			e.Rule == "" || e.Reason == event.System || p == nil || p.UID == 0 || e.Sandbox.Tier != event.TierLSM {
			t.Errorf("recorded: %s\n%+v", describe([]event.Event{e}), p)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not recorded: %v", want)
	}
	if left, _ := filepath.Glob(h.dir + "/.local/state/sallyport/stubs/*.json"); len(left) > 0 {
		t.Errorf("journals of placeholders: %v", left)
	}
}

// What is git's own is held where a repository is, and made where none was.
func TestRepositoriesAreMadeWhereTheKernelDecidesAboutNames(t *testing.T) {
	need(t, "git")
	h := lsmHome(t)
	owner := *h
	owner.ownedByUser().own(h.dir)
	owner.outside("git init -q old && cd old && git -c user.name=n -c user.email=e commit -q --allow-empty -m m && rm -r .git/hooks .git/info")
	owner.own(h.work)
	made := map[string]event.Operation{"hooks": event.FileCreate, "config.worktree": event.FileCreate, "commondir": event.FileCreate, "info/attributes": event.FileCreate}
	r := h.sh(`cd old/.git && mkdir info hooks; for f in config.worktree commondir info/attributes; do echo x >$f; done; ls . info; git log --format=%s`).ok()
	if strings.Contains(r.out, "hooks\n") || strings.Contains(r.out, "commondir\n") || strings.Contains(r.out, "attributes\n") || strings.Contains(r.out, "config.worktree\n") || !strings.HasSuffix(r.out, "m\n") {
		t.Errorf("in a repository that there was:\n%s", r.out)
	}
	for _, e := range r.events {
		name := strings.TrimPrefix(string(e.Object.Path), h.work+"/old/.git/")
		if op, ok := made[name]; !ok || op != e.Operation || e.Layer != event.LayerLSM || e.Count != 1 || !strings.HasPrefix(e.Rule, "builtin:protected:.git/") {
			t.Errorf("recorded: %s", describe([]event.Event{e}))
		}
		delete(made, name)
	}
	if len(made) > 0 {
		t.Errorf("not recorded: %v", made)
	}
	h.sh(`git init -q a && cd a && git -c user.name=n -c user.email=e commit -q --allow-empty -m m && git clone -q . ../b && git worktree add -q ../c && git -C ../c log -1 --format=%s`).ok()
}

func TestWhatAPlanHasTheKernelRefuseIsShown(t *testing.T) {
	h := lsmHome(t)
	r := h.runWith([]string{"--dry-run"}, "true").ok()
	if !strings.Contains(r.out, "# names that the kernel decides about\n") || !strings.Contains(r.out, "name, all below  .vscode (builtin:protected:.vscode)\n") {
		t.Error(r.out)
	}
}

// The agent's programs go on without it, and it is told what they refused.
func TestNamesAreKeptWhileTheAgentIsDead(t *testing.T) {
	need(t, "git")
	lsmHome(t)
	m := newMachine(t)
	h := m.home()
	h.outside("git init -q . && rm -r .git/hooks")
	h.usePolicy("require: {tier: lsm}\n")
	cmd := h.command(t.Context(), "run", "--policy", h.policy, "--", "sh", "-c",
		`touch started; until [ -e go ]; do sleep 0.1; done; mkdir .git/hooks; ln -s started .bashrc; mv .git away; touch done; until [ -e end ]; do sleep 0.1; done`)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command runs", func() bool { return exists(h.work + "/started") })
	if exists(h.work + "/.git/commondir") {
		t.Error("a placeholder stands in the repository")
	}
	m.kill()
	h.write("work/go", "")
	waitFor(t, "it goes on without the agent", func() bool { return exists(h.work + "/done") })
	for _, name := range []string{".git/hooks", ".bashrc", "away"} {
		if exists(h.work + "/" + name) {
			t.Errorf("%s is there", name)
		}
	}
	m.start()
	h.write("work/end", "")
	if err := cmd.Wait(); err != nil {
		t.Errorf("run: %v: %s", err, said.String())
	}
	seen := map[string]uint64{}
	for _, e := range h.machineEvents() {
		if e.Layer == event.LayerLSM && e.Verdict.Denied() && e.Reason != event.System {
			seen[e.Operation.String()+" "+strings.TrimPrefix(string(e.Object.Path), h.work+"/")] += e.Count
		}
	}
	if want := map[string]uint64{"file.create .git/hooks": 1, "file.create .bashrc": 1, "file.rename .git": 1}; !maps.Equal(seen, want) {
		t.Errorf("recorded: %v, want %v", seen, want)
	}
}
