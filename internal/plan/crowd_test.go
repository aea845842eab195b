package plan

import (
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
)

// looks counts how a tree is looked at.
type looks struct {
	tree
	lstats, reads int
	shut          string // a directory in which no name can be looked up
}

func (l *looks) Lstat(name string) (fs.FileInfo, error) {
	l.lstats++
	if l.shut != "" && strings.HasPrefix(name, l.shut+"/") {
		return nil, fs.ErrPermission
	}
	return l.tree.Lstat(name)
}

func (l *looks) ReadDir(name string, most int) ([]fs.DirEntry, error) {
	l.reads++
	return l.tree.ReadDir(name, most)
}

// manyNames is a tree and a policy that names so many files of one directory of
// it: two of three are there, and a link or a directory at times.
func manyNames(n int) (tree, string) {
	var lines, rules strings.Builder
	for i := range n {
		fmt.Fprintf(&rules, " /srv/many/f%d,", i)
		switch i % 12 {
		case 0, 1, 2, 4, 5:
			fmt.Fprintf(&lines, "/srv/many/f%d\n", i)
		case 3:
			fmt.Fprintf(&lines, "/srv/many/f%d/x\n", i)
		case 6:
			fmt.Fprintf(&lines, "/srv/many/f%d -> ../other/f%d\n/srv/other/f%d\n", i, i, i)
		case 9:
			fmt.Fprintf(&lines, "/srv/many/f%d -> nowhere\n", i)
		}
	}
	return newTree(homeTree + lines.String()), "filesystem: {denyRead: [" + strings.TrimSuffix(rules.String(), ",") + "]}"
}

func TestManyNamesOfADirectoryAreReadAtOnceAndMeanTheSame(t *testing.T) {
	tr, text := manyNames(600)
	seen := &looks{tree: tr}
	in := testInput(t, tr, text)
	in.FS = seen
	got := mustMake(t, in)
	if seen.lstats > 400 {
		t.Errorf("600 names took %d looks", seen.lstats)
	}
	crowdsFrom(t, math.MaxInt)
	if want := mustMake(t, testInput(t, tr, text)); got.String() != want.String() {
		t.Errorf("read at once:\n%s\nlooked at:\n%s", got, want)
	}
}

// folded finds a file by its name in upper case, too.
type folded struct{ tree }

func (f folded) Lstat(name string) (fs.FileInfo, error) {
	return f.tree.Lstat(strings.ReplaceAll(name, "/F", "/f"))
}

func TestANameThatADirectoryDoesNotListIsLookedUp(t *testing.T) {
	tr, text := manyNames(600)
	in := testInput(t, tr, strings.Replace(text, "/srv/many/f12,", "/srv/many/F12,", 1))
	in.FS = folded{tr}
	if p := mustMake(t, in); !slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Path == "/srv/many/F12" && m.Access == Hidden }) {
		t.Error("a file that has the name where upper and lower case are alike is not hidden")
	}
}

func crowdsFrom(t *testing.T, n int) {
	kept := crowdFrom
	crowdFrom = n
	t.Cleanup(func() { crowdFrom = kept })
}

func TestPlansAreTheSameHoweverFilesAreLookedAt(t *testing.T) {
	for seed := range uint64(randomWorlds) {
		w := newWorld(seed)
		in := testInput(t, w.t, w.policy())
		crowdsFrom(t, 1)
		got := mustMake(t, in)
		crowdsFrom(t, math.MaxInt)
		if want := mustMake(t, in); got.String() != want.String() {
			t.Fatalf("seed %d: read at once:\n%s\nlooked at:\n%s", seed, got, want)
		}
	}
}

func TestADirectoryThatCannotBeSearchedIsNotRead(t *testing.T) {
	tr, text := manyNames(600)
	in := testInput(t, tr, text)
	in.FS = &looks{tree: tr, shut: "/srv/many"}
	for _, m := range mustMake(t, in).Mounts {
		if strings.HasPrefix(m.Path, "/srv/many/") {
			t.Fatalf("a mount where nothing can be looked up: %s", m)
		}
	}
}

func TestADirectoryOfFarMoreThanIsNamedIsNotReadForThat(t *testing.T) {
	tr, text := manyNames(100)
	for i := range 1000 {
		tr.add(fmt.Sprintf("/srv/many/other%d", i))
	}
	r := newResolver(tr)
	r.expect(testPolicy(t, testEnv, text).Files().DenyRead)
	if _, _, err := r.real("/srv/many/f0"); err != nil || r.crowds["/srv/many"].names != nil {
		t.Errorf("error %v, names: %d", err, len(r.crowds["/srv/many"].names))
	}
}
