package plan

import (
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

func TestMasksAreTheMountsThatTakeSomethingAway(t *testing.T) {
	rule := policy.Rule{Name: "protected:.git/config"}
	p := &Plan{Mounts: []Mount{
		{Path: "/", Access: ReadOnly, Dir: true},
		{Path: "/home/u/.ssh", Access: Hidden, Dir: true},
		{Path: "/home/u/.link", Link: "x"},
		{Path: "/home/u/runtime", Access: Private, Dir: true},
		{Path: "/home/u/work", Access: ReadWrite, Dir: true},
		{Path: "/home/u/work/.git", Access: ReadWrite, Dir: true, Pin: true},
		{Path: "/home/u/work/.git/config", Access: ReadOnly, Rule: rule},
		{Path: "/home/u/work/.env", Access: Hidden},
		{Path: "/tmp/private", Access: Private, Dir: true},
		{Path: "/proc/keys"},
	}}
	want := map[string]bool{ // whether the payload could make what is missing there
		"/home/u/.ssh": false, "/home/u/runtime": false, "/home/u/work/.git": false,
		"/home/u/work/.git/config": true, "/home/u/work/.env": false,
	}
	for _, m := range p.Masks() {
		makeable, ok := want[m.Path]
		if !ok {
			t.Errorf("%s is no mask", m.Path)
		}
		if got := p.Makeable(m); got != makeable {
			t.Errorf("%s: makeable %v", m.Path, got)
		}
		delete(want, m.Path)
	}
	for path := range want {
		t.Errorf("%s is missing", path)
	}
}

func TestOnlyWhatGitTrustsGetsAPlaceholderWhileTheCommandRuns(t *testing.T) {
	for _, test := range []struct {
		path, rule string
		dir, want  bool
		content    string
	}{
		{"/w/.git/hooks", "protected:.git/hooks", true, true, ""},
		{"/w/.git/commondir", "protected:.git/commondir", false, true, ".\n"},
		{"/w/.git", "protected:.git", false, false, ""},
		{"/w/.bashrc", "protected:.bashrc", false, false, ""},
	} {
		s, ok := StubFor(Mount{Path: test.path, Dir: test.dir, Access: ReadOnly, Rule: policy.Rule{Name: test.rule}})
		if ok != test.want || ok && (s.Path != test.path || s.Dir != test.dir || s.Content != test.content) {
			t.Errorf("%s: %+v, %v", test.path, s, ok)
		}
	}
}
