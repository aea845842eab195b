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
	// How much comes back at once depends on how the file is cached: Linux 6.18 maps
	// a folio of it whole, and these are large after some linkers.
	if after := resident(t); after >= before {
		t.Errorf("%d KiB of files are mapped, %d were", after, before)
	}
}
