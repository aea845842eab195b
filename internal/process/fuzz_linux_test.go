package process

import (
	"strings"
	"testing"
)

func FuzzProcFiles(f *testing.F) {
	f.Add("1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 77 1 2", "PPid:\t1\nUid:\t1\t2\t3\t4\nNSpid:\t5\t1\n", "0::/a/b\n")
	f.Fuzz(func(t *testing.T, stat, status, group string) {
		_, _ = parseStart([]byte(stat))
		if s, err := parseStatus(status); err == nil && !strings.Contains(status, "PPid") {
			t.Errorf("read %+v from %q", s, status)
		}
		if p, err := CgroupPath(group); err == nil && !strings.HasPrefix(p, "/") {
			t.Errorf("path %q", p)
		}
	})
}
