package plan

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

const linkTree = `
/a/b/file
/abs -> /a
/a/rel -> ../a/b
/a/up -> ../../../../a/b/file
/a/dots -> b/../b/./file
/chain -> abs/rel
/loop -> loop2
/loop2 -> loop
/dangling -> /nowhere/x
/through -> dangling/y
/a/b/back -> ../..
`

func TestResolverFollowsLinksAsTheKernelDoes(t *testing.T) {
	for name, test := range map[string]struct{ path, want, err string }{
		"no link":              {"/a/b/file", "/a/b/file", ""},
		"absolute":             {"/abs/b/file", "/a/b/file", ""},
		"relative":             {"/a/rel/file", "/a/b/file", ""},
		"more .. than parents": {"/a/up", "/a/b/file", ""},
		"dots in a target":     {"/a/dots", "/a/b/file", ""},
		"a chain":              {"/chain/file", "/a/b/file", ""},
		"back to the root":     {"/a/b/back/a/b/back", "/", ""},
		"the root":             {"/", "/", ""},
		"absent":               {"/a/b/none/deep", "/a/b/none/deep", "not exist"},
		"dangling":             {"/dangling", "/nowhere/x", "not exist"},
		"through a dangling":   {"/through/z", "/nowhere/x/y/z", "not exist"},
		"a loop":               {"/loop/x", "", "too many levels"},
	} {
		got, _, err := newResolver(newTree(linkTree)).real(test.path)
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: error %v, want %q", name, err, test.err)
		}
		if test.want != "" && got != test.want {
			t.Errorf("%s: %s leads to %s, want %s", name, test.path, got, test.want)
		}
		if test.err == "not exist" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is not fs.ErrNotExist", name, err)
		}
	}
}

func TestExpandFindsWhatAPatternCovers(t *testing.T) {
	tr := newTree("/d/a.key\n/d/b.key\n/d/sub/c.key\n/d/sub/deep/d.key\n/d/link -> sub\n/d/.hidden.key\n/d/key\n")
	for pattern, want := range map[string]string{
		"/d/*.key":          "/d/.hidden.key /d/a.key /d/b.key",
		"/d/**/*.key":       "/d/.hidden.key /d/a.key /d/b.key /d/sub/c.key /d/sub/deep/d.key",
		"/d/[ab].key":       "/d/a.key /d/b.key",
		"/d/?.key":          "/d/a.key /d/b.key",
		"/*/sub/c.key":      "/d/sub/c.key",
		"/d/l*/c.key":       "/d/link/c.key",
		"/d/**/deep":        "/d/sub/deep",
		"/d/*/nothing":      "",
		"/d/**/deep/*.none": "",
	} {
		got, err := newResolver(tr).expand(policy.PathRule{Path: pattern, Glob: true})
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", pattern, s, want)
		}
	}
}

func TestExpandAgreesWithTheGlobLanguage(t *testing.T) {
	patterns := []string{"/home/u/**/k", "/home/*/w", "/**/.git/*", "/home/u/w/a*/**/f", "/s?v/**/[a-b]", "/home/u/w**/f", "/home/u/w/**k", "/tmp/**/**/a"}
	for seed := range uint64(100) {
		w := newWorld(seed)
		for _, pattern := range patterns {
			found, err := newResolver(w.t).expand(policy.PathRule{Path: pattern, Glob: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range w.paths {
				covered := slices.ContainsFunc(found, func(f string) bool { return below(p, f) })
				if want := policy.MatchGlob(pattern, p); covered != want {
					t.Fatalf("seed %d: %s covers %s: %t, the policy says %t (found %q)", seed, pattern, p, covered, want, found)
				}
			}
		}
	}
}

func TestAPatternThatVisitsTooMuchIsAnError(t *testing.T) {
	e := expander{r: newResolver(newTree("/d/a\n/d/b\n/d/c\n")), pattern: "/d/*", left: 2}
	e.walk("/", []string{"d", "*"})
	if e.err == nil {
		t.Errorf("found %q and no error", e.found)
	}
}
