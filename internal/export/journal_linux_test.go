package export

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	journald        = "/lib/systemd/systemd-journald"
	journalVariable = "EXPORT_TEST_JOURNAL"
)

// TestTheJournalTakesIt sends to a real journald of the test's own, in a mount
// namespace where /run is its own.
func TestTheJournalTakesIt(t *testing.T) {
	if os.Getenv(journalVariable) != "" {
		insideJournal(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("a journald of the test's own takes root")
	}
	if _, err := exec.LookPath("journalctl"); err != nil || !exists(journald) {
		t.Skip("journald is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run", "^TestTheJournalTakesIt$", "-test.v")
	cmd.Env = append(os.Environ(), journalVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func insideJournal(t *testing.T) {
	for _, err := range []error{syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""), os.MkdirAll("/run/systemd/journal", 0o755), os.MkdirAll("/run/log/journal", 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(journald)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	for end := time.Now().Add(time.Minute); !exists("/run/systemd/journal/socket"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("journald does not start")
		}
	}
	s, err := NewJournal()
	if err != nil {
		t.Fatal(err)
	}
	records := list(5)
	records[4].Detail = "" // and one that is too long for a datagram
	for range 40 {
		records[4].Ancestors = append(records[4].Ancestors, *records[4].Process)
	}
	if err := s.Send(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for end := time.Now().Add(time.Minute); len(got) < 5 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		out, err := exec.Command("journalctl", "-D", "/run/log/journal", "-o", "json", "--all", "SALLYPORT_VERDICT=deny").Output()
		if err != nil {
			continue // not flushed yet
		}
		got = nil
		for line := range strings.Lines(string(out)) {
			m := map[string]any{}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			got = append(got, m)
		}
	}
	if len(got) != 5 {
		t.Fatalf("%d of 5 events are in the journal", len(got))
	}
	for i, m := range got {
		if m["SALLYPORT_ID"] != records[i].ID || m["SALLYPORT_OPERATION"] != "file.read" || m["SALLYPORT_EXE"] != "/usr/bin/curl" ||
			m["PRIORITY"] != "4" || m["SYSLOG_IDENTIFIER"] != "sallyport" {
			t.Errorf("field of %v", m)
		}
		if p := readSchema(t).problems([]byte(m["SALLYPORT_OCSF"].(string))); len(p) > 0 {
			t.Errorf("OCSF: %q", p)
		}
	}
}
