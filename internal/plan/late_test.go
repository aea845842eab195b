package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestManyMasksAreLeftToTheSupervisor(t *testing.T) {
	p := &Plan{Caps: Capabilities{Perms: true}, Mounts: []Mount{{Path: "/", Access: ReadOnly, Dir: true}, {Path: "/etc/own", Access: Hidden},
		{Path: "/hid", Access: Hidden, Dir: true, Open: true}, {Path: "/hid/shown", Access: ReadOnly, Dir: true},
		{Path: "/proc/keys", Access: Hidden}, {Path: "/tmp/x", Access: ReadOnly},
		{Path: "/w", Access: ReadWrite, Dir: true}, {Path: "/w/pin", Access: ReadWrite, Dir: true, Pin: true},
		{Path: "/w/pin/file", Access: ReadOnly}, {Path: "/w/ro", Access: ReadOnly, Dir: true}, {Path: "/w/ro/rw", Access: ReadWrite, Dir: true}},
		Files: []File{{Path: "/etc/own"}}}
	if late := p.LateMounts(); late != nil {
		t.Errorf("of few masks some are left over: %v", late)
	}
	old := *p
	if old.Caps.Perms = false; len(old.LateMounts()) == 0 {
		t.Error("a bubblewrap that cannot make them all is left with all")
	}
	want := []string{"/w/pin below /w", "/w/pin/file below /w"}
	for i := range lateFrom {
		p.Mounts = append(p.Mounts, Mount{Path: fmt.Sprintf("/x%04d", i), Access: []Access{Hidden, ReadOnly}[i%2]})
		want = append(want, fmt.Sprintf("/x%04d below /", i))
	}
	p.Mounts = append(p.Mounts, Mount{Path: "/z", Access: ReadOnly, Dir: true}, Mount{Path: "/z/below", Access: Hidden, Link: "x"})
	var got []string
	for _, l := range p.LateMounts() {
		got = append(got, l.Path+" below "+l.Base)
	}
	if !slices.Equal(got, want) {
		t.Errorf("left over are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	args := strings.Join(p.BwrapArgs(), " ")
	for _, m := range p.Mounts[1:] {
		late := slices.ContainsFunc(p.LateMounts(), func(l Late) bool { return l.Path == m.Path })
		if late == strings.Contains(args, " "+m.Path+" ") {
			t.Errorf("%s is left over: %t, and bubblewrap's as well, or nobody's", m.Path, late)
		}
	}
}

// What is mounted later covers what is below it, so that nothing may be.
func TestLateMountsCoverNothingThatIsMounted(t *testing.T) {
	some := 0
	for seed := range uint64(randomWorlds) {
		w := newWorld(seed)
		p := mustMake(t, testInput(t, w.t, w.policy()))
		late := p.late(1)
		some += len(late)
		is := map[string]bool{}
		for i, l := range late {
			is[l.Path] = true
			if slices.ContainsFunc(late[:i], func(o Late) bool { return below(o.Path, l.Path) }) {
				t.Errorf("seed %d: %s comes after what is below it", seed, l.Path)
			}
		}
		for _, l := range late {
			for _, m := range p.Mounts {
				switch {
				case is[m.Path]:
				case below(m.Path, l.Path):
					t.Errorf("seed %d: %s comes late, %s below it is mounted by then", seed, l.Path, m.Path)
				case below(l.Path, m.Path) && !below(l.Base, m.Path):
					t.Errorf("seed %d: the base of %s is %s, and not %s", seed, l.Path, l.Base, m.Path)
				}
			}
			if is[l.Base] {
				t.Errorf("seed %d: the base of %s, %s, is late", seed, l.Path, l.Base)
			}
			for _, f := range p.Files {
				if below(f.Path, l.Path) {
					t.Errorf("seed %d: %s covers %s", seed, l.Path, f.Path)
				}
			}
		}
		if t.Failed() {
			t.Fatal(listMounts(p.Mounts))
		}
	}
	if some < randomWorlds {
		t.Errorf("%d late mounts in %d worlds: this tests nothing", some, randomWorlds)
	}
}
