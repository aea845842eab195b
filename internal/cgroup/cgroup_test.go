package cgroup

import (
	"errors"
	"strings"
	"testing"
)

func TestVersion2IsFoundWhereverItIsMounted(t *testing.T) {
	for _, tt := range []struct{ name, mountinfo, want string }{
		{"alone", "28 1 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"hybrid", "30 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n29 1 0:25 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup rw\n", "/sys/fs/cgroup/unified"},
		{"a part bound elsewhere", "31 1 0:25 /user.slice /mnt rw - cgroup2 x rw\n28 1 0:25 / /cg rw - cgroup2 x rw\n", "/cg"},
		{"with a space", `28 1 0:25 / /my\040cgroups rw - cgroup2 x rw` + "\n", "/my cgroups"},
		{"version 1 alone", "30 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", ""},
		{"nothing", "", ""},
		{"cut short", "28 1 0:25 - cgroup2 x\n- cgroup2 x", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mountOf(tt.mountinfo)
			if got != tt.want || (err != nil) != (tt.want == "") || err != nil && !errors.Is(err, ErrNone) {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestTheOwnCgroupIsThatOfVersion2(t *testing.T) {
	for in, want := range map[string]string{
		"0::/\n": "/", "5:cpu:/a\n0::/user.slice/x.scope\n": "/user.slice/x.scope", "5:cpu:/a\n": "", "": "",
	} {
		if got, err := ownPath(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "a/b", "/a", "cgroup.procs", "a\nb", "a\x00", ".hidden", strings.Repeat("x", 300)} {
		if validName(bad) {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	for _, good := range []string{"box-1", "sallyport.slice", "a b"} {
		if !validName(good) {
			t.Errorf("%q is refused", good)
		}
	}
}

func TestEventsAreRead(t *testing.T) {
	const content = "populated 1\nfrozen 0\n"
	if is, err := event(content, "populated"); err != nil || !is {
		t.Errorf("populated: %v, %v", is, err)
	}
	if is, err := event(content, "frozen"); err != nil || is {
		t.Errorf("frozen: %v, %v", is, err)
	}
	if _, err := event(content, "other"); err == nil {
		t.Error("an event that is not there was found")
	}
}

func TestCountersAreRead(t *testing.T) {
	const memory = "low 0\nhigh 0\nmax 17\noom 2\noom_kill 3\noom_group_kill 0\n"
	for _, c := range []struct {
		content, name string
		want          uint64
	}{{memory, "oom_kill", 3}, {memory, "max", 17}, {memory, "kill", 0}, {"max 5\n", "max", 5}, {"", "max", 0}, {"max\n", "max", 0}, {"max -1\n", "max", 0}, {"max 5", "max", 5}} {
		if got := counter(c.content, c.name); got != c.want {
			t.Errorf("%s of %q: %d, want %d", c.name, c.content, got, c.want)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("28 1 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	f.Add(`28 1 0:25 / /my\040cgroups rw - cgroup2 x rw`)
	f.Add(" - cgroup2 ")
	f.Fuzz(func(t *testing.T, s string) {
		if dir, err := mountOf(s); err == nil && dir == "" {
			t.Errorf("found nowhere in %q", s)
		}
	})
}
