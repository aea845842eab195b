package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMasksBeyondANumberAreLeftToTheSupervisor(t *testing.T) {
	p := &Plan{Mounts: []Mount{{Path: "/", Access: ReadOnly, Dir: true}, {Path: "/w", Access: ReadWrite, Dir: true}, {Path: "/w/pin", Access: ReadWrite, Dir: true, Pin: true},
		{Path: "/w/pin/ro", Access: ReadOnly}, {Path: "/hid", Access: Hidden, Dir: true, Open: true}, {Path: "/hid/shown", Access: ReadOnly, Dir: true},
		{Path: "/tmp/x", Access: ReadOnly}, {Path: "/proc/keys", Access: Hidden}, {Path: "/etc/own", Access: Hidden}},
		Files: []File{{Path: "/etc/own"}}}
	if late := p.LateMasks(); late != nil {
		t.Errorf("of few masks some are left over: %v", late)
	}
	for i := range bwrapMasks + 50 {
		p.Mounts = append(p.Mounts, Mount{Path: fmt.Sprintf("/w/f%04d", i), Access: []Access{Hidden, ReadOnly}[i%2]})
	}
	p.Mounts = append(p.Mounts, Mount{Path: "/z", Access: ReadOnly, Dir: true}, Mount{Path: "/z/below", Access: ReadWrite, Dir: true},
		Mount{Path: "/hid/late", Access: ReadOnly}, Mount{Path: "/zz", Access: Hidden, Link: "x"})
	late := p.LateMasks()
	if len(late) != 51 { // and /w/pin/ro, which is of the first
		t.Fatalf("%d masks are left over, want 51", len(late))
	}
	args := strings.Join(p.BwrapArgs(), " ")
	for _, m := range late {
		if !strings.HasPrefix(m.Path, "/w/f") || strings.Contains(args, m.Path+" ") {
			t.Errorf("%s is left over, and bubblewrap's", m.Path)
		}
	}
	for _, m := range p.Mounts[1:] {
		if !slices.Contains(late, m) && !strings.Contains(args, " "+m.Path+" ") {
			t.Errorf("%s is nobody's", m.Path)
		}
	}
}
