package plan

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The numbers are those of golang.org/x/sys, generated from the kernel's own
// headers, for both architectures on any host.
func TestSyscallNumbersAreTheKernels(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatalf("find golang.org/x/sys: %v", err)
	}
	for goarch, arch := range map[string]Arch{"amd64": ArchAMD64, "arm64": ArchARM64} {
		file := filepath.Join(strings.TrimSpace(string(out)), "unix", "zsysnum_linux_"+goarch+".go")
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		kernel, newest := map[string]uint32{}, uint32(0)
		for _, m := range regexp.MustCompile(`SYS_(\w+)\s+= (\d+)`).FindAllStringSubmatch(string(src), -1) {
			n, err := strconv.ParseUint(m[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			kernel[strings.ToLower(m[1])] = uint32(n)
			newest = max(newest, uint32(n))
		}
		for name := range syscalls {
			got, ok := arch.Syscall(name)
			want, exists := kernel[name]
			if ok != exists || got != want && exists {
				t.Errorf("%s on %s: %d (%v), the kernel's is %d (%v)", name, goarch, got, ok, want, exists)
			}
		}
		// When this fails, read what the new calls do before raising Newest.
		if n := DefaultSeccomp().Newest; n != newest {
			t.Errorf("newest call is %d, the kernel's is %d on %s", n, newest, goarch)
		}
	}
}
