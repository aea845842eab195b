package cgroup

import (
	"fmt"
	"slices"
	"testing"
)

func TestLimitsAreWrittenAsTheKernelKeepsThem(t *testing.T) {
	for name, c := range map[string]struct {
		limits      Limits
		want        string
		controllers []string
	}{
		"none":          {Limits{}, "[]", nil},
		"memory":        {Limits{Memory: 2 << 30}, "[{memory memory.max 2147483648 false} {memory memory.swap.max 0 true}]", []string{"memory"}},
		"no whole page": {Limits{Memory: 10000}, "[{memory memory.max 8192 false} {memory memory.swap.max 0 true}]", []string{"memory"}},
		"less than one": {Limits{Memory: 1}, "[{memory memory.max 4096 false} {memory memory.swap.max 0 true}]", []string{"memory"}},
		"processes":     {Limits{PIDs: 100}, "[{pids pids.max 100 false}]", []string{"pids"}},
		"half a core":   {Limits{CPU: .5}, "[{cpu cpu.max 50000 100000 false}]", []string{"cpu"}},
		"the least":     {Limits{CPU: .01}, "[{cpu cpu.max 1000 100000 false}]", []string{"cpu"}},
		"several":       {Limits{CPU: 12, PIDs: 1}, "[{pids pids.max 1 false} {cpu cpu.max 1200000 100000 false}]", []string{"pids", "cpu"}},
	} {
		if got := fmt.Sprint(c.limits.settings()); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := c.limits.controllers(); !slices.Equal(got, c.controllers) {
			t.Errorf("%s: controllers %q, want %q", name, got, c.controllers)
		}
	}
	if got := lacking([]string{"memory", "pids"}, "cpuset cpu io memory_x pids\n"); !slices.Equal(got, []string{"memory"}) {
		t.Errorf("lacking: %q", got)
	}
}
