package plan

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

var fileOps = []FileOp{FileOpRead, FileOpWrite, FileOpMkdir, FileOpDelete, FileOpMove}

func tableOf(t testing.TB, text string) (*FileTable, *policy.Policy) {
	t.Helper()
	p := testPolicy(t, testEnv, text)
	return CompileFiles(KernelFiles(p.Files(), nil, testEnv.Home, testEnv.RuntimeDir)), p
}

func TestNamesAreRefusedBeforeTheyExist(t *testing.T) {
	table, _ := tableOf(t, `filesystem:
  denyRead: ["~/w/**/*.pem", ~/w/late, "~/w/cfg/*"]
  allowRead: ["~/w/cfg/*.txt"]
  denyWrite: [~/w/absent/deep/file, "~/w/gen/*.go", "~/w/odd?name"]
  allowWrite: [~/w]
`)
	if len(table.Left) != 1 || !strings.HasSuffix(table.Left[0].Path, "odd?name") {
		t.Errorf("left: %v", table.Left)
	}
	for _, tt := range []struct {
		op      FileOp
		path    string
		refused bool
	}{
		{FileOpRead, "/home/u/w/a/b/k.pem", true},
		{FileOpRead, "/home/u/w/k.pem", true},
		{FileOpRead, "/home/u/w/k.pem/below", true},
		{FileOpRead, "/home/u/w/k.pemx", false},
		{FileOpRead, "/home/u/k.pem", false},
		{FileOpRead, "/home/u/w/cfg/x", true},
		{FileOpRead, "/home/u/w/cfg/x.txt", false},
		{FileOpWrite, "/home/u/w/late", true},
		{FileOpMkdir, "/home/u/w/late", true},
		{FileOpMkdir, "/home/u/w/absent/deep/file", true},
		{FileOpMkdir, "/home/u/w/absent/deep", false},
		{FileOpMove, "/home/u/w/absent/deep", true},
		{FileOpMove, "/home/u/w/absent", true},
		{FileOpMove, "/home/u/w/absent2", false},
		{FileOpWrite, "/home/u/w/gen/a.go", true},
		{FileOpWrite, "/home/u/w/gen/a.c", false},
		{FileOpMove, "/home/u/w/gen", true},
		{FileOpDelete, "/home/u/w/gen", false},
		{FileOpWrite, "/home/u/w/x/y/z/.git/config", true},
		{FileOpWrite, "/home/u/w/x/.GIT/Config", true},
		{FileOpWrite, "/home/u/w/x/.git/config/below", false},
		{FileOpMkdir, "/home/u/w/x/.git", false},
		{FileOpWrite, "/home/u/w/x/.git", true},
		{FileOpMove, "/home/u/w/x/.git", true},
		{FileOpMkdir, "/home/u/w/x/.git/hooks", true},
		{FileOpWrite, "/home/u/w/x/.git/hooks/a/b", true},
		{FileOpWrite, "/home/u/w/x/.git/modules/m/n/config", true},
		{FileOpMove, "/home/u/w/x/.git/modules/m", true},
		{FileOpMove, "/home/u/w/x/.git/modules/m/n", false},
		{FileOpWrite, "/home/u/w/.claude/settings.local.json", true},
		{FileOpWrite, "/home/u/w/.claude/notes", false},
		{FileOpMove, "/home/u/w/.claude", true},
		{FileOpWrite, "/home/u/.bashrc", true},
		{FileOpWrite, "/srv/.bashrc", false},       // nothing is written there anyway
		{FileOpWrite, "/tmp/x/.git/config", false}, // the sandbox's own
		{FileOpRead, "/run/sallyport/init", false},
		{FileOpRead, "/home/u/.config/sallyport/policy.yaml", true},
		{FileOpMove, "/home/u/.config", true},
	} {
		if got := table.Refuses(tt.op, tt.path); got != tt.refused {
			t.Errorf("operation %s on %s: refused %v", tt.op.Operation(), tt.path, got)
		}
	}
}

func TestAPatternThatCannotBeFollowedHidesNothingThatAnotherShows(t *testing.T) {
	table, _ := tableOf(t, "filesystem:\n  denyRead: [\"~/w/*.key\"]\n  allowRead: [\"~/w/?.key\"]\n")
	if table.Refuses(FileOpRead, "/home/u/w/a.key") || len(table.Left) != 2 {
		t.Errorf("left %v", table.Left)
	}
}

func TestRulesHoldUnderBothNamesOfALink(t *testing.T) {
	p := testPolicy(t, testEnv, "filesystem:\n  denyWrite: [~/l/late, \"~/l/*.x\"]\n  allowWrite: [/data]\n")
	fsys := newTree("/data/\n/home/u/l -> /data\n/home/u/w/")
	table := CompileFiles(KernelFiles(p.Files(), fsys, testEnv.Home))
	for _, name := range []string{"/data/late", "/home/u/l/late", "/data/a.x", "/data/.envrc"} {
		if !table.Refuses(FileOpWrite, name) {
			t.Errorf("%s may be written", name)
		}
	}
}

func TestWhatIsTooMuchIsSaid(t *testing.T) {
	var list []string
	for i := range 200 {
		list = append(list, fmt.Sprintf("'a%d*'", i))
	}
	table, _ := tableOf(t, "filesystem:\n  denyWrite: ["+strings.Join(list, ", ")+"]\n  allowWrite: [.]\n")
	if len(table.Wilds) != FileWilds {
		t.Errorf("%d wildcards", len(table.Wilds))
	}
	for _, r := range table.Left {
		if r.Kind != FileProtect {
			t.Errorf("no room for %+v", r)
		}
	}
	if len(table.Left)+FileWilds < 200 {
		t.Errorf("only %d are said to be left", len(table.Left))
	}
	if !table.Refuses(FileOpWrite, "/home/u/w/a0x") || !table.Refuses(FileOpWrite, "/home/u/w/.mcp.json") {
		t.Error("what there was room for does not hold")
	}
}

// agree compares the table with the policy: it refuses what any rule does but the
// lack of one, and nothing else. A move may be refused for what it could bring.
func agree(t *testing.T, table *FileTable, p *policy.Policy, name string) {
	t.Helper()
	if strings.ToLower(name) != foldASCII(name) {
		return // capitals of other alphabets
	}
	for _, op := range fileOps {
		d := p.DecideFile(op.Operation(), name)
		if d.Reason == event.RequestInvalid {
			return
		}
		want := !d.Allowed() && d.Reason != event.PathReadOnly
		got := table.Refuses(op, name)
		if got && !want && op != FileOpMove || want && !got && len(table.Left) == 0 {
			t.Fatalf("%s of %s: refused %v, the policy says %v by %s\n%+v", op.Operation(), name, got, d.Verdict, d.Rule, table)
		}
	}
}

// private reports whether a path is the sandbox's own.
func ownName(p *policy.Policy, name string) bool {
	k := kernelFiles{private: append(slices.Clone(privateDirs), testEnv.RuntimeDir)}
	files := p.Files()
	k.open(files.AllowWrite, files.AllowRead)
	return k.own(name)
}

var (
	someNames = []string{"a", "b", "k.pem", ".git", "hooks", "config", "modules", ".GIT", ".bashrc", "x", ".claude", "settings.json",
		"objects", "info", "alternates", "commands", ".vscode", "[x]"}
	someParts = []string{"a", "b", "*.pem", "**", "*", "x", "k*", ".git", "[[]x]", "co*g"}
	someRoots = []string{"/home/u/w", "/home/u", "/srv", "/tmp/w", "/home/u/.ssh"}
)

func someOf(r *rand.Rand, list []string, n int) string {
	out := make([]string, r.IntN(n)+1)
	for i := range out {
		out[i] = list[r.IntN(len(list))]
	}
	return strings.Join(out, "/")
}

func somePolicy(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("filesystem:\n")
	for _, key := range []string{"denyRead", "allowRead", "denyWrite", "allowWrite"} {
		b.WriteString("  " + key + ": [")
		for range r.IntN(4) {
			entry := path.Join(someRoots[r.IntN(len(someRoots))], someOf(r, someParts, 3))
			fmt.Fprintf(&b, "%q, ", entry)
		}
		b.WriteString("]\n")
	}
	return b.String()
}

func TestTheKernelsFormSaysWhatThePolicySays(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 150 {
		text := somePolicy(r)
		table, p := tableOf(t, text)
		for range 100 {
			name := path.Join(someRoots[r.IntN(len(someRoots))], someOf(r, someNames, 5))
			if ownName(p, name) {
				continue
			}
			agree(t, table, p, name)
			if t.Failed() {
				t.Fatal(text)
			}
		}
	}
}

func FuzzTheKernelsFormOfPatterns(f *testing.F) {
	f.Add("a/*.pem", "b/**/c", "a/k.pem")
	f.Add("**/x*y", "[[]q]/*", ".git/hooks/x")
	f.Add("[ab]", "a**b", ".Git/modules/m/config")
	f.Fuzz(func(t *testing.T, hide, protect, name string) {
		text := fmt.Sprintf("filesystem:\n  denyRead: [%q]\n  denyWrite: [%q]\n  allowWrite: [/home/u/w]\n", "/home/u/w/"+hide, "/home/u/w/"+protect)
		file, err := policy.Parse(policy.Source{Name: "/etc/p.yaml", Data: []byte(text)})
		if err != nil {
			return
		}
		p, err := policy.New(testEnv, file)
		if err != nil {
			return
		}
		name = path.Clean("/home/u/w/" + name)
		if ownName(p, name) {
			return
		}
		agree(t, CompileFiles(KernelFiles(p.Files(), nil, testEnv.Home, testEnv.RuntimeDir)), p, name)
	})
}

func TestWhereTheKernelDecidesByNameNothingIsPutOnTheHost(t *testing.T) {
	tree := "/home/u/w/.git/HEAD\n/home/u/w/r/HEAD\n/home/u/w/r/objects/\n/home/u/w/r/refs/\n/data/\n/home/u/w/l -> /data\n"
	text := "filesystem:\n  allowWrite: [., /data]\n  denyWrite: [late, l/linked]\n  denyRead: [secret, 'odd?']\n"
	in := testInput(t, newTree(tree), text)
	before := mustMake(t, in)
	in.ByName, in.Linked = true, true
	p := mustMake(t, in)
	if len(p.Stubs) > 0 || len(before.Stubs) == 0 || before.Names != nil || len(before.Absent) > 0 {
		t.Errorf("placeholders without the kernel: %v, with it: %v", before.Stubs, p.Stubs)
	}
	kept := func(p *Plan) {
		t.Helper()
		for _, s := range before.Stubs {
			leads := slices.ContainsFunc(before.Stubs, func(o Stub) bool { return strings.HasPrefix(o.Path, s.Path+"/") })
			if !leads && !(p.Names.Refuses(FileOpWrite, s.Path) && p.Names.Refuses(FileOpMkdir, s.Path)) {
				t.Errorf("nothing keeps %s from being made", s.Path)
			}
		}
		// Not those of a repository that is made inside.
		if p.Names.Refuses(FileOpMkdir, "/home/u/w/new/.git/hooks") {
			t.Error("git init would be refused")
		}
	}
	kept(p)
	if !strings.Contains(p.String(), "# names that the kernel decides about\nname             .gitconfig (builtin:protected:.gitconfig)\n") {
		t.Error(p)
	}
	if !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "odd?") }) {
		t.Errorf("not said what the kernel cannot follow: %v", p.Notes)
	}
	if linked := slices.IndexFunc(p.Absent, func(a Absent) bool { return a.Path == "/data/linked" }); linked >= 0 {
		t.Errorf("told twice: %v", p.Absent)
	}
	in.Linked = false // who does not know the link is told what it leads to
	p = mustMake(t, in)
	if linked := slices.IndexFunc(p.Absent, func(a Absent) bool { return a.Path == "/data/linked" }); linked < 0 || len(p.Stubs) > 0 {
		t.Errorf("not kept: what a link leads to: %v %v", p.Absent, p.Stubs)
	}
	kept(p)
}
