package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
)

// EnvAccel names an accelerator and spares the trial.
const EnvAccel = "SALLYPORT_TESTVM_ACCEL"

// trialTime is long for KVM, which is there in a second, or never.
const trialTime = 10 * time.Second

// ChooseAccel tries whether KVM really executes a kernel: /dev/kvm may be there,
// open, and fail at the first instruction that needs emulation. The answer holds
// until this host boots again; a file in dir remembers it.
func ChooseAccel(ctx context.Context, dir string, k image.Kernel) (Accel, error) {
	if named := Accel(os.Getenv(EnvAccel)); named != "" {
		return named, named.valid()
	}
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	memo := filepath.Join(dir, "accel")
	if accel, ok := recall(memo, string(bootID)); ok {
		return accel, nil
	}
	accel := TCG
	if kvmRuns(ctx, dir, k) {
		accel = KVM
	}
	line := fmt.Sprintf("%s %s\n", accel, strings.TrimSpace(string(bootID)))
	return accel, os.WriteFile(memo, []byte(line), 0o644)
}

// recall reads what an earlier trial found in the same boot.
func recall(memo, bootID string) (Accel, bool) {
	data, err := os.ReadFile(memo)
	f := strings.Fields(string(data))
	if err != nil || len(f) != 2 || f[1] != strings.TrimSpace(bootID) || Accel(f[0]).valid() != nil {
		return "", false
	}
	return Accel(f[0]), true
}

func kvmRuns(ctx context.Context, tmp string, k image.Kernel) bool {
	if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return false
	} else {
		kvm.Close()
	}
	dir, err := os.MkdirTemp(tmp, "trial-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	c := config{accel: KVM, kernel: k, params: trialParams, console: filepath.Join(dir, "console")}
	_, _ = start(ctx, c, &bytes.Buffer{}, &bytes.Buffer{}, func(int) {}) // what the kernel said decides
	console, err := os.ReadFile(c.console)
	return err == nil && bytes.Contains(console, []byte(trialSaid))
}
