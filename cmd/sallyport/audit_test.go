package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
)

func TestAuditStatusTellsUsageFromProblem(t *testing.T) {
	for _, tt := range []struct {
		args   string
		status int
	}{
		{"audit query --dir " + t.TempDir(), 0},
		{"audit tail --dir " + t.TempDir(), 0},
		{"audit query --dir /does/not/exist", exitProblem},
		{"audit query --verdict maybe", exitUsage},
		{"audit query --since soon", exitUsage},
		{"audit query --lines -1", exitUsage},
		{"audit tail --output yaml", exitUsage},
		{"audit nonsense", exitUsage},
	} {
		if got := execute(context.Background(), strings.Fields(tt.args), nil, io.Discard, io.Discard); got != tt.status {
			t.Errorf("%s: status %d, want %d", tt.args, got, tt.status)
		}
	}
}

func TestTailFollowsWhatComes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	write := func(id string, host event.Text) {
		w, err := audit.Create(dir, audit.Header{Sandbox: event.Sandbox{ID: id}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(event.Event{Operation: event.NetConnect, Object: event.Object{Host: host}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("old", "first.example")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	status := make(chan int)
	go func() {
		status <- execute(ctx, []string{"audit", "tail", "-f", "--dir", dir}, nil, w, io.Discard)
		_ = w.Close()
	}()
	for _, host := range []string{"first.example", "second.example"} {
		if got := readLine(t, r); !strings.Contains(got, host) {
			t.Errorf("got %q, want %s", got, host)
		}
		write("new", "second.example")
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	select {
	case got := <-status:
		if got != 0 {
			t.Errorf("status %d", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still following")
	}
}

func readLine(t *testing.T, r io.Reader) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); b[0] != '\n'; line = append(line, b[0]) {
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	return string(line)
}

func TestOnlyATerminalIsPainted(t *testing.T) {
	none := func(string) string { return "" }
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal, err := os.OpenFile("/dev/null", os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	env := func(k, v string) func(string) string {
		return func(name string) string { return map[string]string{k: v}[name] }
	}
	for _, tt := range []struct {
		name   string
		out    io.Writer
		getenv func(string) string
		want   bool
	}{
		{"terminal", terminal, none, true},
		{"terminal, NO_COLOR", terminal, env("NO_COLOR", "1"), false},
		{"terminal, NO_COLOR empty", terminal, env("NO_COLOR", ""), true},
		{"dumb terminal", terminal, env("TERM", "dumb"), false},
		{"file", file, none, false},
		{"buffer", &bytes.Buffer{}, none, false},
	} {
		if got := painter(tt.out, tt.getenv) != nil; got != tt.want {
			t.Errorf("%s: painted %v", tt.name, got)
		}
	}
}

func TestDenialsAndPermissionsDifferInColour(t *testing.T) {
	red, green := paintVerdict(event.Deny, "x"), paintVerdict(event.Allow, "x")
	if red == green || paintVerdict(event.AskDenied, "x") != red || paintVerdict(event.AskAllowed, "x") != green ||
		paintVerdict(event.Audit, "x") == red || paintVerdict(event.Audit, "x") == green {
		t.Error("the colours do not tell the verdicts apart")
	}
}
