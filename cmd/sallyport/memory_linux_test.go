package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// resident is how much of files this process has mapped, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, files, _ := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(files, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestWhatTheStartTookIsGivenBack(t *testing.T) {
	before := resident(t)
	if err := giveBackProgram(); err != nil {
		t.Fatal(err)
	}
	most := before / 2
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"}) {
		// Not how it is released. Linux 6.18 maps what is cached together at once,
		// and that is much after another linker than Go's.
		most = before - 1
	}
	if after := resident(t); after > most {
		t.Errorf("%d KiB of files are mapped, %d were", after, before)
	}
}
