package ask

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// fakeScreen is a terminal with somebody who types lines.
type fakeScreen struct {
	busy, borrowed atomic.Bool
	typed          chan string

	mu   sync.Mutex
	text strings.Builder
}

func (s *fakeScreen) Free() bool { return !s.busy.Load() }

func (s *fakeScreen) Borrow() (Page, error) {
	if s.borrowed.Swap(true) {
		return nil, errors.New("borrowed twice")
	}
	return s, nil
}

func (s *fakeScreen) Give() { s.borrowed.Store(false) }

func (s *fakeScreen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *fakeScreen) ReadLine(stop <-chan struct{}) (string, error) {
	select {
	case line, ok := <-s.typed:
		if !ok {
			return "", io.EOF
		}
		return line, nil
	case <-stop:
		return "", ErrStopped
	}
}

func (s *fakeScreen) shows(t testing.TB, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q on the screen", text), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Contains(s.text.String(), text)
	})
}

func onTerminal(t testing.TB, cfg Config) (*Broker, *fakeScreen) {
	t.Helper()
	cfg.Asking = true
	b, s := New(cfg), &fakeScreen{typed: make(chan string, 16)}
	stop := StartTerminal(b, s)
	t.Cleanup(func() { b.Close(); stop() })
	return b, s
}

func TestALineOnTheTerminalAnswers(t *testing.T) {
	for _, c := range []struct {
		lines   []string
		allowed bool
		match   string // remembered
	}{
		{[]string{"y"}, true, ""},
		{[]string{"d"}, false, ""},
		{[]string{"s"}, true, "a.example.com:443"},
		{[]string{"s *.example.com"}, true, "*.example.com"},
		{[]string{"t 10m a.example.com"}, true, "a.example.com"},
		{[]string{"n"}, false, "a.example.com:443"},
		{[]string{"x"}, false, "*"},
		{[]string{"?", "", "y"}, true, ""},
		{[]string{"maybe", "y"}, true, ""},
		{[]string{"maybe", "perhaps", "why"}, false, ""},
		{[]string{"s example.org", "s *", "s *.com"}, false, ""},
		{[]string{"t 10y", "t", "y y"}, false, ""},
	} {
		t.Run(strings.Join(c.lines, ","), func(t *testing.T) {
			b, s := onTerminal(t, Config{Name: "build"})
			d := asked(t, b, "a.example.com:443")
			s.shows(t, "something wants to reach a.example.com port 443")
			for _, line := range c.lines {
				s.typed <- line
			}
			if got := <-d; got.Allowed() != c.allowed {
				t.Errorf("%+v\n%s", got, s.text.String())
			}
			if r := b.Remembered(); (c.match == "") != (len(r) == 0) || c.match != "" && r[0].Match != c.match {
				t.Errorf("remembered %+v", r)
			}
			eventually(t, "the terminal given back", func() bool { return !s.borrowed.Load() })
		})
	}
}

func TestAFullScreenProgramIsNotDisturbed(t *testing.T) {
	b, s := onTerminal(t, Config{})
	s.busy.Store(true)
	d := asked(t, b, "example.com:443")
	open(t, b, 1)
	time.Sleep(3 * freeEvery)
	if s.text.Len() != 0 {
		t.Errorf("it is: %q", s.text.String())
	}
	s.busy.Store(false)
	s.shows(t, "example.com port 443")
	s.typed <- "y"
	if got := <-d; !got.Allowed() {
		t.Errorf("%+v", got)
	}
}

func TestAnAnswerElsewhereTakesTheQuestionOffTheTerminal(t *testing.T) {
	b, s := onTerminal(t, Config{})
	d := asked(t, b, "example.com:443")
	s.shows(t, AskLine)
	if err := b.Reply(Reply{ID: b.Pending()[0].ID, Verdict: Allow}, "desktop"); err != nil {
		t.Fatal(err)
	}
	if got := <-d; !got.Allowed() {
		t.Errorf("%+v", got)
	}
	s.shows(t, "allowed (desktop)")
	eventually(t, "the terminal given back", func() bool { return !s.borrowed.Load() })
}

func TestTheEndOfInputIsARefusal(t *testing.T) {
	b, s := onTerminal(t, Config{})
	d := asked(t, b, "example.com:443")
	s.shows(t, AskLine)
	close(s.typed)
	if got := <-d; got.Allowed() {
		t.Errorf("%+v", got)
	}
}

func TestTheDeadlineTakesTheQuestionOffTheTerminal(t *testing.T) {
	b, s := onTerminal(t, Config{})
	d := asked(t, b, "example.com:443")
	s.shows(t, AskLine)
	timeOut(b)
	if got := <-d; got.Allowed() {
		t.Errorf("%+v", got)
	}
	s.shows(t, "there was no answer")
}

func TestAPromptIsHarmless(t *testing.T) {
	hostile := []event.Text{"\x1b]0;x\x07", "\u202eevil", "a\nsallyport: allowed", "\u200b", "\x9b31m", "\xff", "\r", "\u2028"}
	for _, h := range hostile {
		r := Request{Host: "xn--pple-43d.com", Port: 443, Session: "a1", Name: h, Owner: "xn--pple-43d.com",
			Proc: &Proc{PID: 1, Exe: "/tmp/" + h, Argv: []event.Text{h, "x" + h}}}
		got := Prompt(r, 1, true)
		for _, c := range got {
			if c != '\n' && (c < ' ' || c > '~') && c != '…' {
				t.Errorf("%q in %q", c, got)
			}
		}
		if n := strings.Count(got, "\n"); n != 5 {
			t.Errorf("%d lines:\n%s", n, got)
		}
		if strings.Contains(got, "а") {
			t.Errorf("a letter of another script:\n%s", got)
		}
	}
	long := Request{Host: strings.Repeat("a.", 120) + "evil.example.com", Port: 1, Proc: &Proc{PID: 1, Exe: event.Text(strings.Repeat("x", 5000)), Argv: []event.Text{event.Text(strings.Repeat("y", 5000))}}}
	if got := Prompt(long, 0, false); len(got) > 1000 || !strings.Contains(got, "evil.example.com port 1") {
		t.Errorf("%d bytes:\n%s", len(got), got)
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"y", "s *.example.com", "t 10m", "w", "x", "t 1e9h", "s \x1b", "n *"} {
		f.Add(s)
	}
	r := Request{ID: "i", Host: "a.example.com", Port: 443}
	f.Fuzz(func(t *testing.T, line string) {
		reply, err := ParseLine(line, r)
		if err != nil {
			if reply.Verdict != Deny || reply.Scope != Once {
				t.Fatalf("%q: %+v, %v", line, reply, err)
			}
			return
		}
		if rule, err := ruleOf(reply, requestTarget(r)); err != nil || !rule.Matches(requestTarget(r)) {
			t.Fatalf("%q: %+v is about %s: %v", line, reply, rule, err)
		}
	})
}
