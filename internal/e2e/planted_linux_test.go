package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// plantedAt fails the test unless an event tells of a new path.
func (r *result) plantedAt(path, rule, detail string) {
	r.t.Helper()
	for _, e := range r.events {
		if string(e.Object.Path) == path && e.Rule == "builtin:protected:"+rule && strings.Contains(string(e.Detail), detail) {
			return
		}
	}
	r.t.Errorf("%s (%s, %q) is not in the record:\n%s", path, rule, detail, describe(r.events))
}

// kept lists what is in quarantine, by base name.
func (h *home) kept() map[string]string {
	h.t.Helper()
	found, err := filepath.Glob(h.dir + "/.local/state/sallyport/quarantine/*/*-*")
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range found {
		_, base, _ := strings.Cut(filepath.Base(f), "-")
		out[base] = f
	}
	return out
}

func TestPlantedFilesAreMovedAside(t *testing.T) {
	h := newHome(t)
	h.write("work/.claude/settings.json", "{}")
	r := h.sh(`echo evil > .bashrc; mkdir -p sub/.vscode; echo evil > sub/.vscode/tasks.json; chmod 0 sub/.vscode
		ln -s /etc/passwd .envrc; mkdir .claude/commands; echo evil > .claude/commands/x.md; echo fine > other`).ok()
	for name, rule := range map[string]string{".bashrc": ".bashrc", "sub/.vscode": ".vscode", ".envrc": ".envrc", ".claude/commands": ".claude/commands"} {
		path := filepath.Join(h.work, name)
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", name)
		}
		r.plantedAt(path, rule, "moved to ")
		if kept := h.kept()[filepath.Base(name)]; kept == "" || !strings.Contains(r.err, "mv -n '"+kept+"' '"+path+"'") {
			t.Errorf("%s: the summary does not say how to get it back from %q:\n%s", name, kept, r.err)
		}
	}
	if _, err := os.Lstat("/etc/passwd"); err != nil || h.read("work/other") != "fine\n" || h.read("work/.claude/settings.json") != "{}" {
		t.Error("more than that was moved")
	}
	// As the summary says.
	for _, line := range strings.Split(r.err, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "mv -n ") && strings.Contains(line, ".bashrc") {
			h.outside(line)
		}
	}
	if got := h.read("work/.bashrc"); got != "evil\n" {
		t.Errorf("taken back, it holds %q", got)
	}
	journals, _ := filepath.Glob(h.dir + "/.local/state/sallyport/quarantine/*/journal.jsonl")
	if len(journals) != 1 {
		t.Fatalf("journals: %q", journals)
	}
	b, _ := os.ReadFile(journals[0])
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var m struct{ From, To, Rule string }
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.From == "" || m.To == "" || m.Rule == "" {
			t.Errorf("journal has %q: %v", line, err)
		}
	}
}

func TestPlantedFilesAreToldOfEvenWhenQuiet(t *testing.T) {
	h := newHome(t)
	r := h.runWith([]string{"--quiet"}, "sh", "-c", "echo evil > .bashrc").ok()
	if !strings.Contains(r.err, "1 file appeared under a protected name") {
		t.Errorf("not told: %q", r.err)
	}
}

func TestWhatGitMakesInsideIsLeftWhereItIs(t *testing.T) {
	h := newHome(t)
	h.repository()
	r := h.sh(`set -e; git init -q new; cd new; git config user.name N; git config user.email n@example.com; git remote add origin https://example.com/x.git
		git commit -q --allow-empty -m one; cd ..; git worktree add -q tree`).ok()
	r.plantedAt(h.work+"/new/.git/config", ".git/config", "runs nothing")
	r.plantedAt(h.work+"/tree/.git", ".git", "runs nothing")
	if len(h.kept()) > 0 || strings.Contains(r.err, "appeared") {
		t.Errorf("moved: %v\n%s", h.kept(), r.err)
	}
	if got := h.outside("git -C new remote; git -C tree status --short; git -C tree log --oneline | wc -l"); got != "origin\n1\n" {
		t.Errorf("outside: %q", got)
	}
}

func TestAPlantedRepositoryCannotRunAnything(t *testing.T) {
	h := newHome(t)
	h.repository()
	h.sh(`set -e; echo 'touch ran' > evil; chmod +x evil
		git init -q new; git -C new config core.fsmonitor "$PWD/evil"; cp evil new/.git/hooks/pre-commit
		git init -q --bare bare; git -C bare config core.fsmonitor "$PWD/evil"
		git worktree add -q tree; echo "gitdir: $PWD/fake" > tree/.git; cp -r new/.git fake`).ok()
	h.outside("git -C new status; git -C new -c user.name=x -c user.email=x commit -q --allow-empty -m x; git -C tree status; git -C bare status; true")
	for _, dir := range []string{".", "new", "tree", "bare"} {
		if _, err := os.Stat(filepath.Join(h.work, dir, "ran")); err == nil {
			t.Errorf("what was planted ran in %s", dir)
		}
	}
	kept := h.kept()
	for _, name := range []string{"config", "hooks", ".git"} {
		if kept[name] == "" {
			t.Errorf("%s is not in quarantine: %v", name, kept)
		}
	}
}

func TestAPlantedLinkDoesNotLeadTheQuarantineElsewhere(t *testing.T) {
	h := newHome(t)
	h.write("other/.claude/commands/mine.md", "mine")
	r := h.sh("ln -s ../other/.claude .claude").ok()
	if h.read("other/.claude/commands/mine.md") != "mine" {
		t.Errorf("a file outside the write roots was moved:\n%s", r.err)
	}
}

func TestPlantedFilesOfAnotherFileSystemAreRenamed(t *testing.T) {
	h := newHome(t)
	other, err := os.MkdirTemp("/dev/shm", "sallyport-e2e-")
	if err != nil {
		t.Skipf("no other file system: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	h.own(other)
	var here, there unix.Stat_t
	if unix.Stat(h.dir, &here) == nil && unix.Stat(other, &there) == nil && here.Dev == there.Dev {
		t.Skip("/dev/shm is not another file system")
	}
	h.runWith([]string{"--allow-write", other}, "sh", "-c", "echo evil > "+other+"/.bashrc").ok()
	found, _ := filepath.Glob(other + "/.bashrc*")
	if len(found) != 1 || !strings.HasPrefix(found[0], other+"/.bashrc.quarantined-") {
		t.Errorf("there is %v", found)
	}
}

func TestWhatTheHostMovesDuringARunIsNotMovedAside(t *testing.T) {
	h := newHome(t)
	h.write("work/project/.envrc", "mine")
	h.write("work/project/.vscode/tasks.json", "mine")
	h.outside("git init -q project; git -C project config alias.st status")
	before := len(h.events())
	s := h.steps().do("true")
	h.outside("mv project renamed")
	out := s.do("! touch renamed/.envrc.x 2>/dev/null || true").end()
	if len(h.kept()) > 0 || strings.Contains(out, "appeared") {
		t.Errorf("moved aside: %v\n%s", h.kept(), out)
	}
	if h.read("work/renamed/.envrc") != "mine" || h.read("work/renamed/.vscode/tasks.json") != "mine" {
		t.Error("the user's files are not where they were put")
	}
	if got := h.outside("git -C renamed config alias.st; git -C renamed status --short --ignored; ls renamed/.git"); strings.Contains(got, "commondir") || !strings.HasPrefix(got, "status\n") {
		t.Errorf("the repository is left as %s", got)
	}
	r := result{t: t, events: h.events()[before:]}
	r.plantedAt(h.work+"/renamed/.envrc", ".envrc", "was protected as "+h.work+"/project/.envrc")
}
