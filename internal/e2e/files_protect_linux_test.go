package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// outside runs a shell script in the working directory as the same user,
// without a sandbox.
func (h *home) outside(script string) string {
	h.t.Helper()
	out, err := h.program(h.t.Context(), "/bin/sh", "-c", script).CombinedOutput()
	if err != nil {
		h.t.Fatalf("outside: %s: %v\n%s", script, err, out)
	}
	return string(out)
}

const gitIdentity = "git config user.name T; git config user.email t@example.com; "

func (h *home) repository() {
	h.t.Helper()
	h.outside("git init -q; " + gitIdentity + "echo one > file; git add file; git commit -qm one")
}

// during starts a command that waits inside and does something meanwhile.
func (h *home) during(before, after string, meanwhile func()) {
	h.t.Helper()
	cmd := h.command(h.t.Context(), "run", "--", "sh", "-c", before+"touch ready; while [ ! -e go ]; do sleep 0.01; done; "+after)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	waitFor(h.t, "the command to be ready", func() bool { _, err := os.Stat(h.work + "/ready"); return err == nil })
	meanwhile()
	h.write("work/go", "")
	if err := cmd.Wait(); err != nil {
		h.t.Errorf("inside: %v\n%s", err, out.String())
	}
	os.Remove(h.work + "/ready")
	os.Remove(h.work + "/go")
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(slow); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestMandatoryDenialsHold(t *testing.T) {
	h := newHome(t)
	rc, settings := h.write("work/.bashrc", "# mine"), h.write("work/sub/.vscode/settings.json", "{}")
	agent := h.write("work/.claude/settings.local.json", "{}")
	h.write("work/plain", "x")
	vscode := filepath.Dir(settings)
	h.unchanged(func() {
		h.attack("write "+rc+": EROFS", "rewrite "+rc+": EROFS", "unlink "+rc+": EBUSY", "rename "+rc+" "+h.work+"/x: EBUSY", "chmod "+rc+": EROFS",
			"rename "+h.work+"/plain "+rc+": EBUSY", "exchange "+h.work+"/plain "+rc+": EBUSY", "link "+rc+" "+h.work+"/x: EXDEV", "linkfd "+rc+" "+h.work+"/x: EXDEV",
			"write "+settings+": EROFS", "create "+vscode+"/tasks.json: EROFS", "rename "+vscode+" "+h.work+"/sub/x: EBUSY",
			"rename "+h.work+"/sub "+h.work+"/x: EBUSY", "exchange "+h.work+"/sub "+h.work+"/.claude: EBUSY", "rmdir "+h.work+"/sub: EBUSY|ENOTEMPTY",
			"rename "+h.work+"/.claude "+h.work+"/x: EBUSY", "write "+agent+": EROFS",
			"write /proc/self/root"+rc+": EROFS", "write /proc/self/cwd/.bashrc: EROFS", "umount "+rc+": EPERM", "umount "+vscode+": EPERM")
	})
}

func TestWhatGitTrustsIsProtectedAndGitWorksInside(t *testing.T) {
	h := newHome(t)
	h.repository()
	git := h.work + "/.git"
	config := h.read("work/.git/config")
	h.attack("write "+git+"/config: EROFS", "create "+git+"/config.lock: ok", "rename "+git+"/config.lock "+git+"/config: EBUSY",
		"create "+git+"/hooks/pre-commit: EROFS", "rename "+git+"/hooks "+git+"/h: EBUSY", "rename "+git+" "+h.work+"/g: EBUSY",
		"create "+git+"/commondir: EEXIST", "write "+git+"/commondir: EROFS", "unlink "+git+"/commondir: EBUSY", "rename "+git+"/config.lock "+git+"/commondir: EBUSY",
		"write "+git+"/info/attributes: EROFS", "rename "+git+"/info "+git+"/i: EBUSY", "write "+git+"/objects/info/alternates: EROFS",
		"write "+git+"/config.worktree: EROFS", "unlink "+git+"/config.lock: ok")
	r := h.sh("set -e; echo two > file; git status --short; git add file; git commit -qm two; git gc -q; git fsck; git branch b; git checkout -q b; git worktree list; git log --oneline | wc -l").ok()
	if !strings.Contains(r.out, "M file") || !strings.HasSuffix(r.out, "2\n") {
		t.Errorf("git inside said %q %q", r.out, r.err)
	}
	if got := h.read("work/.git/config"); got != config {
		t.Errorf("config is now %q", got)
	}
	h.noPlaceholders()
	if got := h.outside("git status --short; git log --oneline | wc -l"); got != "2\n" {
		t.Errorf("git outside, afterwards: %q", got)
	}
}

// noPlaceholders fails the test if a run has left any, or a journal.
func (h *home) noPlaceholders() {
	h.t.Helper()
	for _, name := range []string{"commondir", "config.worktree", "info/attributes", "objects/info/alternates"} {
		if _, err := os.Lstat(filepath.Join(h.work, ".git", name)); err == nil {
			h.t.Errorf("placeholder .git/%s is left", name)
		}
	}
	if left, _ := filepath.Glob(h.dir + "/.local/state/sallyport/stubs/*.json"); len(left) > 0 {
		h.t.Errorf("journals are left: %v", left)
	}
}

func TestGitOnTheHostWorksWhileACommandRuns(t *testing.T) {
	h := newHome(t)
	h.repository()
	h.during("", "git commit -q --allow-empty -m inside", func() {
		if got := h.read("work/.git/commondir"); got != ".\n" {
			t.Errorf("the placeholder commondir holds %q", got)
		}
		h.outside("set -e; git status; echo three > file; git add file; git commit -qm three; git gc -q; git worktree list; " +
			"git worktree add -q ../tree; git -C ../tree status; git worktree remove ../tree; git fsck")
	})
	h.noPlaceholders()
	if got := strings.TrimSpace(h.outside("git log --oneline | wc -l")); got != "3" {
		t.Errorf("%s commits, want 3", got)
	}
}

func TestTwoRunsShareAPlaceholderUntilTheLastEnds(t *testing.T) {
	h := newHome(t)
	h.repository()
	commondir := h.work + "/.git/commondir"
	h.during("", "! echo /tmp/evil > .git/commondir", func() {
		h.run("true").ok() // another, which ends before
		if _, err := os.Lstat(commondir); err != nil {
			t.Error("the second run took the placeholder of the first away")
		}
	})
	h.noPlaceholders()

	second := make(chan error, 1)
	var cmd *exec.Cmd
	h.during("", "true", func() {
		cmd = h.command(t.Context(), "run", "--", "sh", "-c", "touch ready2; while [ ! -e go2 ]; do sleep 0.01; done; ! echo /tmp/evil > .git/commondir")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { second <- cmd.Wait() }()
		waitFor(t, "the second command", func() bool { _, err := os.Stat(h.work + "/ready2"); return err == nil })
	})
	if _, err := os.Lstat(commondir); err != nil {
		t.Error("the first run took the placeholder away that the second stands on")
	}
	h.write("work/go2", "")
	if err := <-second; err != nil {
		t.Errorf("the second run could plant a commondir: %v", err)
	}
	h.noPlaceholders()
}

func TestManyShortRunsInOneRepository(t *testing.T) {
	h := newHome(t)
	h.repository()
	const runs = 12
	results := make(chan string, runs)
	for range 3 {
		go func() {
			for range runs / 3 {
				out, err := h.command(t.Context(), "run", "--quiet", "--", "sh", "-c", "! echo x 2>/dev/null > .git/commondir").CombinedOutput()
				if err != nil {
					out = append(out, err.Error()...)
				}
				results <- string(out)
			}
		}()
	}
	for range runs {
		if r := <-results; r != "" {
			t.Errorf("a run beside others: %s", r)
		}
	}
	h.noPlaceholders()
}

func TestAUsersOwnDenialOfAnAbsentPathHolds(t *testing.T) {
	h := newHome(t)
	h.usePolicy("filesystem:\n  allowWrite: [.]\n  denyWrite: [absent, deep/er/absent, /etc/absent]\n")
	h.unchanged(func() {
		h.attack("create absent: EEXIST", "write absent: EROFS", "unlink absent: EBUSY", "mkdir absent: EEXIST",
			"write deep/er/absent: EROFS", "rename deep away: EBUSY", "rename deep/er deep/away: EBUSY", "create /etc/absent: EROFS|EACCES")
	})
	h.sh("echo hello > deep/other").ok()
	if h.read("work/deep/other") != "hello\n" {
		t.Error("what a command put beside a placeholder is lost")
	}
}

func TestAPlaceholderThatTheUserMayNotMakeIsNotNeeded(t *testing.T) {
	h := newHome(t)
	if h.uid == 0 {
		t.Skip("user 0 may make it")
	}
	h.usePolicy("filesystem:\n  allowWrite: [/]\n  denyWrite: [/usr/absent, /usr/local/not/absent]\n")
	h.attack("create /usr/absent: EACCES", "create "+h.work+"/x: ok")
}
