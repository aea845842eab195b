package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestFilesOfProcAreReadWhole(t *testing.T) {
	long := strings.Repeat("x", 70000)
	cmd := exec.Command("sh", "-c", "kill -STOP $$", long)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for _, name := range []string{"/proc/self/stat", "/proc/self/status", "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cmdline"} {
		got, err := readProc(name)
		want, _ := os.ReadFile(name)
		if err != nil || len(want) == 0 || len(got) != len(want) && !strings.HasSuffix(name, "stat") && !strings.HasSuffix(name, "status") {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
	if _, err := readProc("/proc/self/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func BenchmarkWhoCalls(b *testing.B) {
	c := callers{init: 1}
	for b.Loop() {
		if p, _ := c.of(os.Getpid()); p == nil {
			b.Fatal("nobody")
		}
	}
}
