package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestFilesOfProcAreReadWhole(t *testing.T) {
	long := strings.Repeat("x", 70000)
	cmd := exec.Command("sh", "-c", "kill -STOP $$", long)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	theirs := "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cmdline"
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(theirs); len(b) > 0 { // it is through with execve(2)
			break
		}
	}
	for _, name := range []string{"/proc/self/stat", "/proc/self/status", theirs} {
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
