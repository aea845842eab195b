package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestNamesBesideWhatIsOpenAreShut(t *testing.T) {
	const policy = "filesystem: {denyRead: [~/v], allowRead: [~/v/way/open]}"
	tr := newTree(homeTree + "/home/u/v/file\n/home/u/v/dir/x\n/home/u/v/link -> file\n/home/u/v/way/open/x\n/home/u/v/way/beside\n")
	p := mustMake(t, testInput(t, tr, policy))
	var got []string
	for _, m := range p.Mounts {
		if m.Shut {
			got = append(got, fmt.Sprintf("%s %t %t", m.Path, m.Dir, m.Open))
		}
	}
	if want := []string{"/home/u/v/dir true false", "/home/u/v/file false false", "/home/u/v/link false false", "/home/u/v/way true true", "/home/u/v/way/beside false false"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	checkOrder(t, p)
	args := strings.Join(p.BwrapArgs(), " ")
	for _, want := range []string{"--perms 0000 --dir /home/u/v/dir", "--ro-bind /dev/null /home/u/v/file", "--perms 0111 --dir /home/u/v/way "} {
		if !strings.Contains(args, want) {
			t.Errorf("no %s in %s", want, args)
		}
	}
	// The host has nothing to do with them.
	if slices.ContainsFunc(p.Masks(), func(m Mount) bool { return m.Shut }) || slices.ContainsFunc(p.late(1), func(l Late) bool { return l.Shut }) {
		t.Errorf("%v, %v", p.Masks(), p.late(1))
	}
	in := testInput(t, tr, policy)
	in.Caps.Perms = false
	if p := mustMake(t, in); slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Shut }) {
		t.Error("a directory that can be read is no denial")
	}
}

func TestTooManyNamesBesideWhatIsOpenAreSaid(t *testing.T) {
	text := homeTree + "/home/u/v/open\n"
	for i := range maxShutFiles + 7 {
		text += fmt.Sprintf("/home/u/v/f%d\n", i)
	}
	p := mustMake(t, testInput(t, newTree(text), "filesystem: {denyRead: [~/v], allowRead: [~/v/open]}"))
	if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, "7 names in hidden directories") {
		t.Errorf("notes: %q", notes)
	}
}
