package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestTmuxWorksOnATerminal(t *testing.T) {
	need(t, "tmux")
	h := newHome(t)
	h.write("work/tmux.conf", "set -g status off\nset -g default-shell /bin/sh\nset -g default-command 'PS1=\"pane$ \" sh'\n")
	s := h.onScreen("tmux", "-f", "tmux.conf", "new-session", "-s", "s").wants("pane$ ")
	s.types("stty size\r").wants("24 80").wants("pane$ ")
	s.types("\x02%").wants("pane$ ").types("tty; echo sec''ond\r").wants("second") // another pane beside it
	s.resize(40, 100)
	s.types("until stty size | grep -q '^40 4'; do sleep 0.1; done; echo re''sized\r").wants("resized")
	s.types("tmux kill-session\r").wants("[exited]").exits(0)
}

// A full-screen program is stopped and goes on with the run, and draws itself
// anew.
func TestAFullScreenProgramIsStoppedAndGoesOn(t *testing.T) {
	need(t, "vi")
	h := newHome(t)
	h.write("work/text", "first\n")
	s := h.shellOnScreen()
	s.types("sp vi -u NONE text\r").wants("first").types("Osecond\x1b").wants("second")
	s.types(ctrlZ).wants("Stopped").wants("ready$ ")
	s.types("echo be''tween\r").wants("between").wants("ready$ ")
	s.types("fg\r").wants("second").wants("first").types(":wq\r").wants("ready$ ").types("exit\r").exits(0)
	if got := h.read("work/text"); got != "second\nfirst\n" {
		t.Errorf("the file holds %q", got)
	}
}

// What is said of refusals comes when a full-screen program has put the screen
// back, and on lines of its own.
func TestTheSummaryComesAfterAFullScreenProgram(t *testing.T) {
	need(t, "vi", "curl")
	h := newHome(t)
	h.write("work/text", "first\n")
	s := h.onScreen("vi", "-u", "NONE", "text").wants("first")
	s.types(":silent !curl -s http://denied.test/\r").types(":redraw!\r").types("Odrawn\x1b").wants("drawn").types(":wq\r")
	s.wants("sallyport: 1 attempt denied\r\n").wants("denied.test").exits(0)
	if got := h.read("work/text"); got != "drawn\nfirst\n" {
		t.Errorf("the file holds %q", got)
	}
}

const framedServer = `
let input = Buffer.alloc(0)
const send = m => { const b = Buffer.from(JSON.stringify(m)); process.stdout.write("Content-Length: " + b.length + "\r\n\r\n"); process.stdout.write(b) }
process.stdin.on("data", d => {
  input = Buffer.concat([input, d])
  for (;;) {
    const end = input.indexOf("\r\n\r\n")
    if (end < 0) return
    const n = Number(/Content-Length: (\d+)/.exec(input.subarray(0, end))[1])
    if (input.length < end + 4 + n) return
    const m = JSON.parse(input.subarray(end + 4, end + 4 + n)); input = input.subarray(end + 4 + n)
    if (m.method === "exit") { fetch("http://denied.test/").catch(() => {}).finally(() => process.exit(0)); return }
    send({ jsonrpc: "2.0", id: m.id, result: m.params })
  }
})
`

// The two framings that servers on standard streams use: lines, as MCP has them
// (tested beside terminals), and lengths, as LSP has them.
func TestAServerWithFramesOfAnyLengthIsByteExact(t *testing.T) {
	need(t, "node")
	h := newHome(t)
	cmd := h.command(context.Background(), h.runArgs("node", h.write("work/server.js", framedServer))...)
	stdin, in := pipe(t)
	out, stdout := pipe(t)
	var errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	r := bufio.NewReader(out)
	ask := func(id int, method, params string) {
		b, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
		_, _ = fmt.Fprintf(in, "Content-Length: %d\r\n\r\n%s", len(b), b) // else no answer comes
	}
	for id, size := range []int{0, 1, 1000, 70_000, 1 << 20} {
		text := strings.Repeat("\x00\x04\r\n\x1a\u2028é", size/10)
		go ask(id, "echo", text)
		var n int
		if _, err := fmt.Fscanf(r, "Content-Length: %d\r\n\r\n", &n); err != nil {
			t.Fatalf("message %d: %v\n%s", id, err, errOut.String())
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatal(err)
		}
		var answer struct{ Result string }
		if err := json.Unmarshal(body, &answer); err != nil || answer.Result != text {
			t.Fatalf("message %d: %d bytes, %v", id, len(answer.Result), err)
		}
	}
	ask(9, "exit", "")
	rest, err := io.ReadAll(r)
	if err != nil || len(rest) != 0 {
		t.Errorf("after the last answer: %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(errOut.String(), "denied.test") {
		t.Errorf("%v\n%s", err, errOut.String())
	}
}

func TestBytesPassThroughUnchanged(t *testing.T) {
	h := newHome(t)
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data) // never fails (crypto/rand)
	cmd := h.command(context.Background(), h.runArgs("cat")...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, data) {
		t.Errorf("%d bytes of %d, %v", len(out), len(data), err)
	}
}
