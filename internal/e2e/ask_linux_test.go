package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/proxy/ask"
)

func init() {
	helpers["answerer"] = answerer
	helpers["ask-from-inside"] = askFromInside
}

// answerer answers every request at a socket with a verdict, and prints what it
// is asked.
func answerer() {
	var c *ask.Client
	for err := error(io.EOF); err != nil; time.Sleep(5 * time.Millisecond) {
		c, err = ask.Dial(os.Args[1], ask.WantAsk, ask.WantEvents)
	}
	fmt.Println("connected")
	for {
		m, err := c.Next()
		switch {
		case err != nil:
			return
		case m.Event != nil:
			fmt.Println("event", m.Event.Verdict, m.Event.Object.Host)
		case m.Request != nil:
			fmt.Println("asked", m.Request.Via, m.Request.Host, m.Request.Port, m.Request.Proc != nil)
			var r ask.Reply
			if os.Args[2] == "allow" {
				r.Verdict = ask.Allow
			}
			r.ID = m.Request.ID
			c.Send(ask.Message{Type: ask.TypeAnswer, Reply: &r})
		}
	}
}

// askFromInside tries to answer a sandbox's questions from within it.
func askFromInside() {
	c, err := net.Dial("unix", os.Args[1])
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintln(c, `{"type":"hello","want":["ask"]}`)
	fmt.Fprintln(c, `{"type":"grant","reply":{"verdict":"allow","scope":"session","match":"allowed.test"}}`)
	line, err := bufio.NewReader(c).ReadString('\n')
	fmt.Printf("heard %q: %v\n", line, err)
}

// answers starts a program of the user's that answers at a socket.
func (h *home) answers(path, verdict string) (said func() string) {
	h.t.Helper()
	h.beside("answers", "/usr/bin/env", helperEnv+"=answerer", h.helperPath(), path, verdict)
	return func() string { return h.read("answers") }
}

const askOnTerminal = "ask: {via: [tty], timeout: 1m}\n"

func TestTheTerminalAsksBeforeAConnectionIsMade(t *testing.T) {
	need(t, "curl")
	const get = `curl -sS -o /dev/null -w '%{http_code} ' http://allowed.test/x; echo done`
	h := newHome(t).usePolicy(askOnTerminal)
	s := h.onScreen("sh", "-c", get).wants("sallyport: curl (process ").wants("wants to reach allowed.test port 80").wants(ask.AskLine)
	silent(t)
	s.types("?\r").wants("until the sandbox ends").wants(ask.AskLine).types("y\r").wants("200 done").exits(0)
	h.onScreen("sh", "-c", get).wants(ask.AskLine).types("d\r").wants("403 done").exits(0)
	h.onScreen("sh", "-c", get+";"+get).wants(ask.AskLine).types("s\r").wants("200 done").wants("200 done").exits(0)
	var got []string
	for _, e := range h.events() {
		got = append(got, fmt.Sprint(e.Verdict, " ", e.Reason, " ", e.Rule, " ", e.Object.Host, " ", e.Process != nil))
	}
	want := "ask-allowed user-answer builtin:ask-tty allowed.test true|ask-denied user-answer builtin:ask-tty allowed.test true|ask-allowed user-answer builtin:ask-tty allowed.test true|ask-allowed user-answer builtin:ask-tty allowed.test true"
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("recorded %s", text)
	}
}

// What was typed before the question is no answer to it, and what the command
// writes meanwhile waits.
func TestAnAnswerIsTypedToTheQuestionAlone(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy(askOnTerminal)
	s := h.onScreen("sh", "-c", `echo up; while ! [ -e go ]; do sleep 0.05; done; (sleep 0.5; echo meanwhile; sleep 0.5; echo later) & curl -sS -o /dev/null -w '%{http_code}\n' http://allowed.test/x; wait; read x; echo "got $x"`)
	s.wants("up").types("y\ry\ry\r").wants("y")
	h.write("work/go", "")
	s.wants(ask.AskLine)
	time.Sleep(1200 * time.Millisecond)
	if text := s.text(); strings.Contains(text, "meanwhile") || strings.Contains(text, "200") {
		t.Errorf("the question is not alone: %q", text)
	}
	s.types("y\r").wants("meanwhile").wants("later")
	s.types("mine\r").wants("got ").exits(0)
	if got := s.text(); !strings.Contains(got, "200") {
		t.Errorf("not answered: %q", got)
	}
}

func TestCtrlCAtTheQuestionIsTheCommands(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy(askOnTerminal)
	h.onScreen("curl", "-sS", "http://allowed.test/x").wants(ask.AskLine).types(ctrlC).exits(130)
	h.onScreen("curl", "-sS", "http://allowed.test/x").wants(ask.AskLine).types(ctrlD).wants("refused: allowed.test").exits(0)
	s := h.onScreen("sh", "-c", `curl -sS http://allowed.test/x & while ! [ -e go ]; do sleep 0.05; done; kill -KILL $$`).wants(ask.AskLine)
	h.write("work/go", "")
	s.exits(137) // the command has ended: nobody waits for the answer
}

func TestAProgramOfTheUsersAnswersThroughEveryDoor(t *testing.T) {
	need(t, "curl")
	const script = `curl -sS -o /dev/null -w '%{http_code} ' --noproxy '*' http://allowed.test/a
curl -sS -o /dev/null -w '%{http_code} ' http://allowed.test/b
curl -sS -o /dev/null -w '%{http_code} ' https://allowed.test/c
curl -sS -o /dev/null -w '%{http_code} ' -x socks5h://${HTTP_PROXY##*//} http://allowed.test/d`
	for verdict, want := range map[string]string{"allow": "200 200 200 200 ", "deny": "403 403 000 000 "} {
		t.Run(verdict, func(t *testing.T) {
			h := newHome(t).usePolicy("ask: {via: [socket]}")
			sock := filepath.Join(h.dir, "asks")
			said := h.answers(sock, verdict)
			r := h.runWith(append([]string{"--ask-socket", sock}, caFlags...), "sh", "-c", script)
			if r.out != want {
				t.Errorf("got %q, want %q\n%s", r.out, want, r.err)
			}
			for _, via := range []string{"transparent", "http", "connect", "socks5"} {
				if text := said(); !strings.Contains(text, "asked "+via+" allowed.test") && (verdict == "allow" || via == "transparent") {
					t.Errorf("not asked by %s:\n%s", via, text)
				}
			}
			if verdict == "deny" {
				silent(t)
				if !strings.Contains(said(), "event ask-denied allowed.test") {
					t.Errorf("no word of the denial:\n%s", said())
				}
			}
			if _, err := os.Lstat(sock); err == nil {
				t.Error("the socket is left")
			}
		})
	}
}

func TestASandboxDoesNotAnswerItsOwnQuestions(t *testing.T) {
	h := newHome(t).usePolicy("ask: {via: [socket]}\nnetwork: {allowAllUnixSockets: true}")
	sock := filepath.Join(h.work, "asks") // where the sandbox sees it
	r := h.helperWith([]string{"--ask-socket", sock}, "ask-from-inside", sock)
	if strings.Contains(r.out, `"type":"hello"`) || strings.Contains(r.out, "ok") || r.out == "" {
		t.Errorf("it is heard: %s%s", r.out, r.err)
	}
}

func TestWithNobodyToAskNothingWaits(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy("ask: {timeout: 1h}")
	r := h.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://allowed.test/x").says("403")
	if e := r.recorded(event.NetConnect, nil); e.Verdict != event.Deny || !strings.Contains(string(e.Detail), "nobody") {
		t.Errorf("%+v", e)
	}
	silent(t)
}

// askCommand is 'sallyport ask' with somebody at its streams.
type asking struct {
	t   *testing.T
	in  io.WriteCloser
	out string
}

func (h *home) asks() *asking {
	h.t.Helper()
	cmd := h.command(context.Background(), "ask")
	a := &asking{t: h.t, out: filepath.Join(h.dir, "asked")}
	f, err := os.Create(a.out)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	if a.in, err = cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { a.in.Close(); _ = cmd.Wait(); f.Close() })
	return a
}

func (a *asking) wants(text string) *asking {
	a.t.Helper()
	until(a.t, text, func() bool { b, _ := os.ReadFile(a.out); return strings.Contains(string(b), text) })
	return a
}

func (a *asking) types(line string) {
	a.t.Helper()
	if _, err := io.WriteString(a.in, line+"\n"); err != nil {
		a.t.Fatal(err)
	}
}

func TestTheQuestionsOfAllSandboxesAreAnsweredInOnePlace(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy("ask: {}")
	a := h.asks().wants("nothing is asked by 0 sandboxes")
	const get = `while ! [ -e $0.go ]; do sleep 0.05; done; curl -sS -o /dev/null -w '%{http_code}' http://allowed.test/x >$0; while ! [ -e end ]; do sleep 0.05; done`
	one, two := h.start("one", "sh", "-c", get, "one.out"), h.start("two", "sh", "-c", get, "two.out")
	a.wants("nothing is asked by 2 sandboxes")
	h.write("work/one.out.go", "")
	a.wants("sandbox: one (" + one.ID).types("s")
	h.write("work/two.out.go", "")
	a.wants("sandbox: two (" + two.ID).types("d")
	until(t, "both answers", func() bool { return h.read("work/one.out") == "200" && h.read("work/two.out") == "403" })
	list := h.sallyport("ask", "list").ok()
	if !strings.Contains(list.out, "allowed.test:80") || !strings.Contains(list.out, one.ID) || strings.Contains(list.out, two.ID) {
		t.Errorf("the list: %s", list.out)
	}
	h.sallyport("ask", "forget", "allowed.test:80").ok()
	if list := h.sallyport("ask", "list").ok(); list.out != "" {
		t.Errorf("the list after: %s", list.out)
	}
	if r := h.sallyport("ask", "forget", "allowed.test:80"); r.code != 1 {
		t.Errorf("forgotten twice: %d %s", r.code, r.err)
	}
	h.write("work/end", "")
	one.exits(t, 0)
	two.exits(t, 0)
}

func TestAnAnswerForAlwaysIsInTheUsersPolicy(t *testing.T) {
	need(t, "curl")
	h := newHome(t)
	const before = "# my policy\nask: {via: [tty]} # always\nnetwork:\n  allowedDomains: # few\n    - also.allowed.test # why not\n"
	h.write(".config/sallyport/policy.yaml", before)
	h.policy = ""
	get := []string{"curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}\\n", "http://allowed.test/x"}
	h.onScreen(get...).wants(ask.AskLine).types("w\r").wants("200").exits(0)
	want := before + "    - allowed.test:80 # asked " + time.Now().Format(time.DateOnly) + "\n"
	if got := h.read(".config/sallyport/policy.yaml"); got != want {
		t.Errorf("the policy is %q, want %q", got, want)
	}
	h.run(get...).says("200").allowed("allowed.test", 80)
	if list := h.sallyport("ask", "list").ok(); !strings.Contains(list.out, "policy.yaml:6") || !strings.Contains(list.out, "always") {
		t.Errorf("the list: %s", list.out)
	}
	h.sallyport("ask", "forget", "allowed.test:80").ok()
	if got := h.read(".config/sallyport/policy.yaml"); got != before {
		t.Errorf("the policy is %q", got)
	}
}

// tmux is a real terminal with windows.
type tmux struct {
	h   *home
	dir string
}

// tmux starts a session with a shell in it.
func (h *home) tmux() *tmux {
	h.t.Helper()
	need(h.t, "tmux", "bash")
	m := &tmux{h: h, dir: h.mkdir("tmux")}
	h.env = append(h.env, "TMUX_TMPDIR="+m.dir, "TERM=xterm", "SHELL=/bin/bash", "PS1=$ ")
	m.do("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "bash --noprofile --norc")
	h.t.Cleanup(func() { _, _ = h.program(context.Background(), "/usr/bin/tmux", "kill-server").CombinedOutput() })
	return m
}

func (m *tmux) do(args ...string) string {
	m.h.t.Helper()
	cmd := m.h.program(context.Background(), "/usr/bin/tmux", args...)
	cmd.SysProcAttr.Pdeathsig = 0
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.h.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// types types keys, as tmux names them.
func (m *tmux) types(window string, keys ...string) {
	m.h.t.Helper()
	m.do(append([]string{"send-keys", "-t", window}, keys...)...)
}

// shows waits until a window shows a text.
func (m *tmux) shows(window, text string) {
	m.h.t.Helper()
	for end := time.Now().Add(slow); ; time.Sleep(50 * time.Millisecond) {
		got := m.do("capture-pane", "-p", "-t", window)
		if strings.Contains(got, text) {
			return
		}
		if time.Now().After(end) {
			m.h.t.Fatalf("window %s does not show %q:\n%s", window, text, got)
		}
	}
}

func TestVimInTmuxIsNotDisturbedByAQuestion(t *testing.T) {
	need(t, "vi", "curl")
	h := newHome(t).usePolicy("ask: {via: [tty, socket], timeout: 10m}")
	m := h.tmux()
	get := "curl -sS -o /dev/null -w '%{http_code}' http://allowed.test/x"
	h.write("work/text", "the first line\n")
	h.write("work/in.sh", "(while ! [ -e go ]; do sleep 0.05; done; "+get+" >first.out) &\nvi -u NONE text\n"+get+" >second.out; echo all is over\n")
	m.types("0", binary+" run --policy "+h.policy+" -- sh in.sh", "Enter")
	m.shows("0", "the first line")
	h.write("work/go", "")
	// Elsewhere it is asked; vim goes on, and its screen is its own.
	m.do("new-window", "-d", binary+" ask")
	m.shows("1", "curl (process ")
	m.shows("1", "allowed.test port 80")
	m.types("0", "O", "typed into vim", "Escape")
	m.shows("0", "typed into vim")
	if got := m.do("capture-pane", "-p", "-t", "0"); strings.Contains(got, "sallyport") || !strings.Contains(got, "the first line") {
		t.Errorf("vim's screen:\n%s", got)
	}
	m.types("1", "y", "Enter")
	until(t, "the answer", func() bool { return h.read("work/first.out") == "200" })
	m.types("0", ":wq", "Enter")
	// Now the terminal is free; the other window does not answer.
	m.shows("0", "wants to reach allowed.test port 80")
	m.types("0", "y", "Enter")
	m.shows("0", "all is over")
	if first, second, text := h.read("work/first.out"), h.read("work/second.out"), h.read("work/text"); first != "200" || second != "200" || text != "typed into vim\nthe first line\n" {
		t.Errorf("answers %q, %q; the file holds %q", first, second, text)
	}
}

// What a program has left the terminal in hides no question.
func TestAQuestionIsReadWhateverTheCommandHasDrawn(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy("ask: {via: [tty], timeout: 10m}")
	m := h.tmux()
	h.write("work/in.sh", `printf '\033[5;6r\033[8m\033[30;40m\033(0\033]0;'
curl -sS -o /dev/null -w '%{http_code}' http://allowed.test/x; echo all is over`)
	m.types("0", binary+" run --policy "+h.policy+" -- sh in.sh", "Enter")
	m.shows("0", "wants to reach allowed.test port 80")
	if got := m.do("capture-pane", "-p", "-e", "-t", "0"); strings.Contains(got, "\x1b[8m") || strings.Contains(got, "\x1b[30m") {
		t.Errorf("it is not to be read:\n%q", got)
	}
	m.types("0", "y", "Enter")
	m.shows("0", "200")
}

// A command whose streams are no terminal is asked about on the shell's.
func TestTheShellsTerminalAsksForACommandWithoutOne(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy(askOnTerminal)
	s := h.shellOnScreen().types("sp curl -sS -o /dev/null -w '%{http_code}' http://allowed.test/x </dev/null >o 2>e; echo \"=$(cat o)=\"\r")
	s.wants("wants to reach allowed.test port 80").wants(ask.AskLine).types("y\r").wants("=200=")
	s.types("sp curl -sS -o /dev/null -w '%{http_code}' http://allowed.test/x </dev/null >o 2>e &\r").wants("ready$ ")
	s.types("wait; echo \"=$(cat o)=\"\r").wants("=403=") // in the background nobody is asked
	s.types("exit\r").exits(0)
}

func TestAnAuthorizerDecidesARun(t *testing.T) {
	need(t, "curl")
	h := newHome(t)
	h.write("authorize", `#!/bin/sh
read -r request
case $request in *'"host":"allowed.test"'*) echo '{"verdict":"allow","decision_id":"case-7"}';; *) echo '{"verdict":"deny","decision_id":"case-8"}';; esac`)
	h.usePolicy("network: {authorizer: {exec: [/bin/sh, " + h.dir + "/authorize], timeout: 30s}}")
	r := h.sh(`for host in allowed.test also.allowed.test allowed.test; do curl -sS -o /dev/null -w '%{http_code} ' http://$host/x; done`)
	r.says("200 403 200 ")
	e := r.recorded(event.NetConnect, nil)
	if e.Decision != "case-8" || e.Verdict != event.AskDenied || e.Reason != event.AuthorizerAnswer {
		t.Errorf("%+v", e)
	}
	allowed := false
	for _, e := range r.events {
		allowed = allowed || e.Verdict == event.AskAllowed && e.Decision == "case-7"
	}
	if !allowed {
		t.Errorf("no record of what it allowed:\n%s", describe(r.events))
	}
	onlyArrived(t, "dns allowed.test", "tcp "+thereV4+":80")
}

func TestAQuestionEndsWithTheRun(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy(askOnTerminal)
	before := descendants(t)
	s := h.onScreen("curl", "-sS", "http://allowed.test/x").wants(ask.AskLine)
	s.signal(15)
	s.exits(143)
	h.nothingLeft(before)
	if names, _ := filepath.Glob(filepath.Join(h.registryDir(), "*")); len(names) != 0 {
		t.Errorf("left: %q", names)
	}
}
