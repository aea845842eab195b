package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestFullScreenProgramsWorkInside(t *testing.T) {
	t.Run("vim", func(t *testing.T) {
		need(t, "vi")
		h := newHome(t)
		h.write("work/text", "first\n")
		s := h.onScreen("vi", "-u", "NONE", "text").wants("first").types("Osecond\x1b:wq\r").exits(0)
		if got := h.read("work/text"); got != "second\nfirst\n" {
			t.Errorf("the file holds %q:\n%q", got, s.text())
		}
	})
	t.Run("less", func(t *testing.T) {
		need(t, "less")
		h := newHome(t)
		h.write("work/text", strings.Repeat("line\n", 200)+"the end\n")
		h.onScreen("less", "text").wants("line").types("G").wants("the end").types("q").exits(0)
	})
	t.Run("top", func(t *testing.T) {
		need(t, "top")
		newHome(t).onScreen("top").wants("PID").types("q").exits(0)
	})
	t.Run("a terminal in the terminal", func(t *testing.T) {
		need(t, "script", "bash")
		h := newHome(t)
		s := h.onScreen("script", "-q", "-c", "bash --norc", "/dev/null").wants("$ ").types("tty; stty size\r").wants("/dev/pts/1\r\n").wants("24 80")
		s.types("sh -c 'echo as''leep; exec sleep 607'\r").wants("asleep\r\n").types(ctrlZ).wants("Stopped").types("exit\r").types("exit\r").exits(0)
	})
	t.Run("python", func(t *testing.T) {
		need(t, "python3")
		s := newHome(t).onScreen("python3", "-q").wants(">>> ").types("import os; print(os.ttyname(0), os.get_terminal_size())\r")
		s.wants("/dev/pts/0 os.terminal_size(columns=80, lines=24)").types(ctrlD).exits(0)
	})
}

// What is said at the end comes after what the command has drawn, on a terminal
// that is as it was.
func TestTheSummaryDoesNotGarbleTheScreen(t *testing.T) {
	need(t, "curl")
	h := newHome(t)
	s := h.onScreen("sh", "-c", `printf '\033[?1049hdrawn'; stty raw -echo; curl -sS http://denied.test/ >/dev/null 2>&1; printf '\033[?1049l'; exit 3`)
	s.wants("drawn\x1b[?1049l").wants("denied.test").exits(3)
	_, after, _ := strings.Cut(s.text(), "\x1b[?1049l")
	if n := strings.Count(after, "\n"); n == 0 || n != strings.Count(after, "\r\n") {
		t.Errorf("the summary is printed on a raw terminal: %q", after)
	}
	if before, _, _ := strings.Cut(s.text(), "\x1b[?1049l"); strings.Contains(before, "sallyport") {
		t.Errorf("something is said over the drawing: %q", s.text())
	}
}

func TestOnlyTheStreamsThatAreTerminalsAreReplaced(t *testing.T) {
	const look = `for fd in 0 1 2; do if [ -t $fd ]; then echo $fd terminal; else echo $fd other; fi; done >%s/work/seen; cat; echo err >&2`
	for name, test := range map[string]struct {
		in, out, err bool // redirected
		seen         string
	}{
		"standard input":  {in: true, seen: "0 other\n1 other\n2 terminal\n"},
		"standard output": {out: true, seen: "0 terminal\n1 other\n2 terminal\n"},
		"standard error":  {err: true, seen: "0 terminal\n1 other\n2 other\n"},
		"all":             {in: true, out: true, err: true, seen: "0 other\n1 other\n2 other\n"},
		"both outputs":    {out: true, err: true, seen: "0 terminal\n1 other\n2 other\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			cmd := h.command(context.Background(), h.runArgs("sh", "-c", fmt.Sprintf(look, h.dir))...)
			var out, errOut bytes.Buffer
			if test.in {
				cmd.Stdin = strings.NewReader("piped\n")
			}
			if test.out {
				cmd.Stdout = &out
			}
			if test.err {
				cmd.Stderr = &errOut
			}
			s := h.newScreen()
			if test.in && test.out && test.err {
				cmd.ExtraFiles = append(cmd.ExtraFiles, s.slave)
				cmd.SysProcAttr.Ctty = 3
			}
			s.start(cmd)
			want := "piped\n"
			if !test.in {
				s.types("typed\r" + ctrlD)
				want = "typed\n"
			}
			s.exits(0)
			if !test.out {
				s.wants(strings.TrimSpace(want) + "\r\n")
			} else if got := out.String(); got != want {
				t.Errorf("standard output got %q", got)
			}
			if !test.err {
				s.wants("err\r\n")
			} else if got := errOut.String(); !strings.Contains(got, "err\n") {
				t.Errorf("standard error got %q", got)
			}
			// The redirection of look is the payload's own.
			if seen := h.read("work/seen"); seen != test.seen {
				t.Errorf("inside: %q, want %q", seen, test.seen)
			}
		})
	}
}

func TestAServerOnStandardStreamsIsByteExact(t *testing.T) {
	need(t, "python3")
	h := newHome(t)
	server := h.write("work/server.py", `
import json, sys
for line in sys.stdin.buffer:
    m = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": m["id"], "result": m["params"]}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()
    sys.stderr.write("served\r\n")
sys.stdout.buffer.write(bytes(range(256)))
`)
	cmd := h.command(context.Background(), h.runArgs("python3", server)...)
	stdin, in := pipe(t)
	out, stdout := pipe(t)
	cmd.Stdin, cmd.Stdout = stdin, stdout
	s := h.newScreen().start(cmd) // standard error alone is a terminal
	stdin.Close()
	stdout.Close()
	dec := json.NewDecoder(out)
	for i := range 50 {
		text := strings.Repeat("\x03\x04\x11\x13\x1a\r\né\x00", i*40)
		msg, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": i, "method": "echo", "params": text})
		if _, err := in.Write(append(msg, '\n')); err != nil {
			t.Fatal(err)
		}
		var answer struct {
			ID     int
			Result string
		}
		if err := dec.Decode(&answer); err != nil || answer.ID != i || answer.Result != text {
			t.Fatalf("message %d: answer %d, %q, %v", i, answer.ID, answer.Result, err)
		}
	}
	in.Close()
	var rest bytes.Buffer
	if _, err := rest.ReadFrom(dec.Buffered()); err != nil {
		t.Fatal(err)
	}
	if _, err := rest.ReadFrom(out); err != nil {
		t.Fatal(err)
	}
	want := []byte("\n")
	for i := range 256 {
		want = append(want, byte(i))
	}
	if !bytes.Equal(rest.Bytes(), want) {
		t.Errorf("after the last answer: %q", rest.Bytes())
	}
	s.wants("served").exits(0)
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestACommandThatRunsOutOfTimeIsEnded(t *testing.T) {
	h := newHome(t)
	before := descendants(t)
	for name, test := range map[string]struct {
		script string
		atMost time.Duration
	}{
		"it sleeps":        {"exec sleep 600", 4 * time.Second},
		"it is stopped":    {"kill -STOP $$", 4 * time.Second},
		"it ends well":     {"trap 'exit 0' TERM; while :; do sleep 0.05; done", 4 * time.Second},
		"it will not end":  {"trap '' TERM; while :; do sleep 0.05; done", 12 * time.Second},
		"its children run": {"sleep 600 & sleep 600", 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			r := h.runWith([]string{"--timeout", "1s"}, "sh", "-c", test.script)
			if r.code != 124 || !strings.Contains(r.err, "sallyport: error: the command had not ended after 1s") {
				t.Errorf("exit status %d\n%s", r.code, r.err)
			}
			if took := time.Since(start); took < time.Second || took > test.atMost {
				t.Errorf("it took %s", took)
			}
		})
	}
	h.runWith([]string{"--timeout", "1m"}, "true").ok()
	if r := h.runWith([]string{"--timeout", "1m"}, "sh", "-c", "exit 9"); r.code != 9 {
		t.Errorf("exit status %d", r.code)
	}
	h.nothingLeft(before)
}

func TestFailOnDenialFailsACommandThatSucceeded(t *testing.T) {
	need(t, "curl")
	h := newHome(t)
	const denied = "curl -s http://denied.test/ >/dev/null; "
	flag := []string{"--fail-on-denial"}
	for script, want := range map[string]int{denied + "exit 0": 1, denied + "exit 7": 7, "exit 0": 0, "exit 1": 1} {
		r := h.runWith(flag, "sh", "-c", script)
		said := strings.Contains(r.err, "sallyport: error: the command succeeded, and attempts")
		if r.code != want || said != (script == denied+"exit 0") {
			t.Errorf("%q: exit status %d, want %d\n%s", script, r.code, want, r.err)
		}
	}
	h.sh(denied + "exit 0").ok()
}

func TestWithoutACommandTheUsersShellRuns(t *testing.T) {
	h := newHome(t)
	shell := h.write("shell", "#!/bin/sh\necho this is the shell $#\n")
	if err := os.Chmod(shell, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run"}, {"run", "--"}} {
		h.env = []string{"SHELL=" + shell}
		if r := h.sallyport(args...).ok(); r.out != "this is the shell 0\n" {
			t.Errorf("%q printed %q", args, r.out)
		}
		h.env = []string{"SHELL="}
		s := h.newScreen().start(h.command(context.Background(), args...))
		s.types("echo it''s $0\r").wants("its /bin/sh").types("exit 6\r").exits(6)
	}
	h.env = []string{"SHELL=/no/such/shell"}
	if r := h.sallyport("run"); r.code != 127 {
		t.Errorf("exit status %d\n%s", r.code, r.err)
	}
}
