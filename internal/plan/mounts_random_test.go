package plan

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// The oracle knows nothing of mounts: it asks the policy about every path.
func oracleAccess(p *policy.Policy, name string, dir bool) Access {
	if !p.DecideFile(event.FileRead, name).Allowed() {
		return Hidden
	}
	// To write a directory is to make something in it.
	op := event.FileWrite
	if dir {
		op = event.FileCreate
	}
	d := p.DecideFile(op, name)
	if !d.Allowed() || d.Rule.Name == "private-directory" { // about the sandbox's own, not the host's
		return ReadOnly
	}
	return ReadWrite
}

// world makes random trees and policies over few names, so that rules meet.
type world struct {
	*rand.Rand
	t     tree
	paths []string
}

func (w *world) of(words ...string) string { return words[w.IntN(len(words))] }

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), t: newTree("/home/u/w/\n/usr/bin/sallyport\n")}
	for range 4 + w.IntN(20) {
		dir := w.of("/home/u/w", "/home/u", "/home/u/w/a", "/srv/d", "/tmp/t")
		for range w.IntN(3) {
			dir += "/" + w.of("a", "b", "c", "k")
		}
		w.t.add(dir + "/" + w.of("f", "g", ".bashrc", ".gitmodules", "hooks/h", ".vscode/s", "a/", "b/", ".git/HEAD", ".git/config", ".git/index", ".git/hooks/h", "k"))
	}
	for p := range w.t {
		if fi := w.t[p]; fi.kind == 0 { // a file that turned out to be a directory
			for q := range w.t {
				if strings.HasPrefix(q, p+"/") {
					w.t[p] = node{fi.name, fs.ModeDir, ""}
				}
			}
		}
	}
	for _, p := range w.t.paths() {
		if p != "/" {
			w.paths = append(w.paths, p)
		}
	}
	return w
}

// entries makes a random list of paths and patterns.
func (w *world) entries(n int) string {
	var list []string
	for range w.IntN(n) {
		p := w.of(w.paths...)
		switch w.IntN(8) {
		case 0:
			p = path.Dir(p)
		case 1:
			p = path.Dir(p) + "/*"
		case 2:
			p = "/home/u/**/" + path.Base(p)
		case 3:
			p += "/" + w.of("a", "absent")
		}
		if p = path.Clean(p); p != "/*" {
			list = append(list, fmt.Sprintf("%q", p))
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func (w *world) policy() string {
	text := "mandatoryDenySearchDepth: 9\nfilesystem:\n"
	for _, key := range []string{"denyRead", "allowRead", "allowWrite", "denyWrite"} {
		if w.IntN(5) > 0 {
			text += fmt.Sprintf("  %s: %s\n", key, w.entries(4))
		}
	}
	return text + fmt.Sprintf("  allowGitConfig: %t\n", w.IntN(4) == 0)
}

const randomWorlds = 400

func TestMountsAgreeWithThePolicyEverywhere(t *testing.T) {
	seen := map[Access]int{}
	for seed := range uint64(randomWorlds) {
		w := newWorld(seed)
		text := w.policy()
		in := testInput(t, w.t, text)
		p, err := Make(in)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		for _, name := range w.paths {
			got, want := accessAt(p.Mounts, name), oracleAccess(in.Policy, name, w.t[name].IsDir())
			seen[want]++
			if got == Private || got == want {
				continue
			}
			t.Fatalf("seed %d: %s is %s, the policy says %s\n%s\n%s\n%v", seed, name, got, want, text,
				strings.Join(w.paths, "\n"), listMounts(p.Mounts))
		}
		checkPinned(t, p.Mounts)
		checkOrder(t, p)
		if t.Failed() {
			t.Fatalf("seed %d\n%s\n%s", seed, text, listMounts(p.Mounts))
		}
	}
	for _, a := range []Access{Hidden, ReadOnly, ReadWrite} {
		if seen[a] < randomWorlds {
			t.Errorf("only %d paths of %d worlds are %s: this tests nothing", seen[a], randomWorlds, a)
		}
	}
}

func listMounts(mounts []Mount) string {
	var b strings.Builder
	for _, m := range mounts {
		fmt.Fprintln(&b, m)
	}
	return b.String()
}

// checkOrder holds a plan against what bubblewrap needs: a directory is mounted
// before what is in it, everything once, and only existing paths are bound.
func checkOrder(t testing.TB, p *Plan) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range p.Mounts {
		if seen[m.Path] {
			t.Errorf("%s is mounted twice", m.Path)
		}
		for q := range seen {
			if strings.HasPrefix(q, strings.TrimSuffix(m.Path, "/")+"/") {
				t.Errorf("%s comes after %s, which it covers", m.Path, q)
			}
		}
		seen[m.Path] = true
	}
}

func TestTheSameInputGivesTheSamePlan(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(seed)
		text := w.policy()
		first := mustMake(t, testInput(t, w.t, text)).String()
		if again := mustMake(t, testInput(t, w.t, text)).String(); again != first {
			t.Fatalf("seed %d: two plans:\n%s\n%s", seed, first, again)
		}
	}
}
