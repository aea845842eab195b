package main

import (
	"fmt"
	"os"
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
	if after := resident(t); after > before/2 {
		t.Errorf("%d KiB of files are mapped, %d were", after, before)
	}
}
