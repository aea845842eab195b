package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// ground is a directory to put placeholders in and one for journals.
type ground struct {
	t         *testing.T
	dir, logs string
}

func newGround(t *testing.T) *ground {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/w", 0o755); err != nil {
		t.Fatal(err)
	}
	return &ground{t, dir + "/w", dir + "/stubs"}
}

// plan stands on files and directories ("d/"), which are placeholders unless
// they are among the existing.
func (g *ground) plan(names ...string) *plan.Plan {
	p := &plan.Plan{}
	for _, n := range names {
		s := plan.Stub{Path: filepath.Join(g.dir, n), Dir: strings.HasSuffix(n, "/")}
		if strings.HasSuffix(n, "commondir") {
			s.Content = ".\n"
		}
		if _, err := os.Lstat(s.Path); err != nil {
			p.Stubs = append(p.Stubs, s)
		}
		p.Mounts = append(p.Mounts, plan.Mount{Path: s.Path})
	}
	return p
}

func (g *ground) make(id string, p *plan.Plan) *Stubs {
	g.t.Helper()
	unlock, err := LockStubs(g.logs)
	if err != nil {
		g.t.Fatal(err)
	}
	defer unlock()
	s, err := MakeStubs(g.logs, id, p)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *ground) remove(s *Stubs) {
	g.t.Helper()
	if err := s.Remove(); err != nil {
		g.t.Error(err)
	}
}

func (g *ground) sweep() []string {
	g.t.Helper()
	unlock, err := LockStubs(g.logs)
	if err != nil {
		g.t.Fatal(err)
	}
	defer unlock()
	removed, err := SweepStubs(g.logs)
	if err != nil {
		g.t.Error(err)
	}
	return removed
}

// crash ends a run as SIGKILL does: its descriptors are closed, nothing else.
func (g *ground) crash(s *Stubs) { s.journal.Close() }

// want compares what is there: names, with "=content" for files.
func (g *ground) want(what string, names ...string) {
	g.t.Helper()
	var got []string
	filepath.Walk(g.dir, func(path string, fi os.FileInfo, _ error) error {
		if path == g.dir {
			return nil
		}
		name := strings.TrimPrefix(path, g.dir+"/")
		if fi.IsDir() {
			name += "/"
		} else if b, _ := os.ReadFile(path); len(b) > 0 {
			name += "=" + string(b)
		}
		got = append(got, name)
		return nil
	})
	if got, want := strings.Join(got, " "), strings.Join(names, " "); got != want {
		g.t.Errorf("%s: there is %q, want %q", what, got, want)
	}
}

func (g *ground) journals() int {
	names, _ := filepath.Glob(g.logs + "/*.json")
	return len(names)
}

func TestPlaceholdersComeAndGo(t *testing.T) {
	g := newGround(t)
	g.write("mine", "x")
	s := g.make("a", g.plan("mine", "commondir", "d/", "d/e/", "d/e/f"))
	g.want("made", "commondir=.\n", "d/", "d/e/", "d/e/f", "mine=x")
	if g.journals() != 1 {
		t.Error("no journal")
	}
	g.remove(s)
	g.want("removed", "mine=x")
	if g.journals() != 0 {
		t.Error("a journal is left")
	}
	if err := s.Remove(); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

func (g *ground) write(name, content string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

func TestNoPlaceholdersNoJournal(t *testing.T) {
	g := newGround(t)
	g.remove(g.make("a", g.plan()))
	if g.journals() != 0 {
		t.Error("a journal of nothing")
	}
	var none *Stubs
	if err := none.Remove(); err != nil {
		t.Error(err)
	}
}

func TestWhatTheUserPutThereStays(t *testing.T) {
	g := newGround(t)
	s := g.make("a", g.plan("commondir", "empty", "d/", "d/f", "kind"))
	g.write("commondir", "../other")
	g.write("d/mine", "x")
	os.Remove(g.dir + "/kind")
	if err := os.Mkdir(g.dir+"/kind", 0o755); err != nil {
		t.Fatal(err)
	}
	g.remove(s)
	g.want("removed", "commondir=../other", "d/", "d/mine=x", "kind/")
}

func TestAPlaceholderIsNotMadeThroughALink(t *testing.T) {
	g := newGround(t)
	p := g.plan("planted")
	target := filepath.Join(filepath.Dir(g.dir), "elsewhere")
	if err := os.Symlink(target, g.dir+"/planted"); err != nil {
		t.Fatal(err)
	}
	s := g.make("a", p)
	if _, err := os.Lstat(target); err == nil {
		t.Error("made through a link")
	}
	g.remove(s)
	if _, err := os.Lstat(g.dir + "/planted"); err != nil {
		t.Error("the link was removed")
	}
}

func TestACrashedRunsPlaceholdersAreSwept(t *testing.T) {
	g := newGround(t)
	s := g.make("crashed", g.plan("commondir", "d/", "d/f"))
	alive := g.make("alive", g.plan("other"))
	g.crash(s)
	if got := len(g.sweep()); got != 3 {
		t.Errorf("%d removed, want 3", got)
	}
	g.want("swept", "other")
	if g.journals() != 1 {
		t.Errorf("%d journals, want the living run's", g.journals())
	}
	if got := g.sweep(); got != nil {
		t.Errorf("swept again: %q", got)
	}
	g.remove(alive)
	g.want("ended")
}

func TestASharedPlaceholderGoesWithTheLastRun(t *testing.T) {
	for name, first := range map[string]func(*ground, *Stubs){
		"ended":   (*ground).remove,
		"crashed": func(g *ground, s *Stubs) { g.crash(s); g.sweep() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			a := g.make("a", g.plan("d/", "d/commondir", "own"))
			b := g.make("b", g.plan("d/commondir"))
			first(g, a)
			g.want("the first gone", "d/", "d/commondir=.\n")
			c := g.make("c", g.plan("d/commondir"))
			g.remove(b)
			g.want("the second gone", "d/", "d/commondir=.\n")
			g.remove(c)
			g.want("the last gone")
		})
	}
}

func TestWhatIsNoPlaceholderIsNotShared(t *testing.T) {
	g := newGround(t)
	a := g.make("a", g.plan("commondir"))
	g.write("real", "x")
	b := g.make("b", g.plan("real"))
	g.remove(a)
	g.remove(b)
	g.want("ended", "real=x")
}

func TestADamagedJournalIsDropped(t *testing.T) {
	g := newGround(t)
	if err := os.MkdirAll(g.logs, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"empty.json": "", "half.json": `[{"Path":"/`, "other.txt": "", "wrong.json": `{"a":1}`} {
		if err := os.WriteFile(g.logs+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.sweep()
	if g.journals() != 0 {
		t.Errorf("%d journals are left", g.journals())
	}
}

func TestTheJournalComesBeforeThePlaceholders(t *testing.T) {
	g := newGround(t)
	p := g.plan("a", "b")
	p.Stubs = append(p.Stubs, plan.Stub{Path: g.dir + "/a/below/a/file"}) // cannot be made: ENOTDIR
	unlock, err := LockStubs(g.logs)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := MakeStubs(g.logs, "x", p); err == nil {
		t.Fatal("made what cannot be made")
	}
	g.want("failed")
	if g.journals() != 0 {
		t.Error("a journal is left")
	}
}

func TestAPlaceholderWhereTheUserMayNotWriteIsLeftOut(t *testing.T) {
	g := newGround(t)
	p := g.plan("fine")
	sealed := "/sys/sealed" // EPERM for everybody
	p.Stubs = append(p.Stubs, plan.Stub{Path: sealed, Dir: true}, plan.Stub{Path: sealed + "/file"})
	p.Mounts = append(p.Mounts, plan.Mount{Path: sealed + "/file"})
	s := g.make("a", p)
	g.want("made", "fine")
	if len(p.Stubs) != 1 || len(p.Mounts) != 1 {
		t.Errorf("the plan still has %v %v", p.Stubs, p.Mounts)
	}
	g.remove(s)
	g.want("removed")
}

func TestLockStubsKeepsOthersOut(t *testing.T) {
	g := newGround(t)
	unlock, err := LockStubs(g.logs)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(g.logs+"/lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		t.Error("two hold the lock")
	}
	unlock()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the lock is not given back: %v", err)
	}
}

func FuzzSweepJournal(f *testing.F) {
	good, _ := json.Marshal([]plan.Stub{{Path: "x", Dir: true}, {Path: "y", Content: ".\n"}})
	f.Add(string(good))
	f.Add("[]")
	f.Add(`[{"Path":"../../etc/passwd"}]`)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		t.Chdir(dir) // relative paths in a damaged journal stay in here
		if strings.Contains(text, "/") || strings.Contains(text, "\\") {
			t.Skip("an absolute path could be a real one")
		}
		for name, content := range map[string]string{"full": "content", "j.json": text} {
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = SweepStubs(dir)
		if b, err := os.ReadFile("full"); err != nil || string(b) != "content" && !strings.Contains(text, "content") {
			t.Errorf("a file with content of its own was removed: %v", err)
		}
	})
}

func TestAPlaceholderThatWasHalfMadeIsSwept(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	half, used := filepath.Join(work, "commondir"), filepath.Join(work, "alternates")
	journal := fmt.Sprintf(`[{"Path":%q,"Content":".\n"},{"Path":%q,"Content":".\n"}]`, half, used)
	for path, content := range map[string]string{filepath.Join(dir, "0123.json"): journal, half: ".", used: "/elsewhere"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := SweepStubs(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(half); err == nil {
		t.Error("half a placeholder is left")
	}
	if _, err := os.Lstat(used); err != nil {
		t.Error("what the user put to use is gone")
	}
}

func TestAPlaceholderIsMadeWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "commondir")
	for range 2 { // the second finds the first
		if err := makeStub(plan.Stub{Path: path, Content: ".\n"}); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != ".\n" {
			t.Fatalf("got %q, %v", b, err)
		}
	}
}
