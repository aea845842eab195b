package ask

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestMain(m *testing.M) {
	selfAllowed = true
	os.Exit(m.Run())
}

func served(t testing.TB, cfg Config) (*Broker, string) {
	t.Helper()
	b := New(cfg)
	path := filepath.Join(t.TempDir(), "ask")
	s, err := Listen(b, path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); s.Close() })
	return b, path
}

func dialled(t testing.TB, path string, want ...string) *Client {
	t.Helper()
	c, err := Dial(path, want...)
	if err != nil {
		t.Fatal(err)
	}
	c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// next waits for a message of a type.
func next(t testing.TB, c *Client, kind string) Message {
	t.Helper()
	for {
		m, err := c.Next()
		if err != nil {
			t.Fatalf("waiting for %s: %v", kind, err)
		}
		if m.Type == kind {
			return m
		}
	}
}

func somebody(t testing.TB, b *Broker) {
	t.Helper()
	eventually(t, "answerer", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.somebody()
	})
}

func TestAProgramAnswersThroughTheSocket(t *testing.T) {
	b, path := served(t, Config{Session: "a1", Asking: true})
	c := dialled(t, path, WantAsk)
	if !c.Hello.Asking || c.Hello.Session != "a1" || c.Hello.Remembers {
		t.Errorf("hello %+v", c.Hello)
	}
	somebody(t, b)
	d := asked(t, b, "example.com:443")
	r := next(t, c, TypeAsk).Request
	if r.Host != "example.com" || r.Port != 443 || r.Suggest[0] != "example.com:443" || time.Until(r.Deadline) > time.Minute {
		t.Errorf("request %+v", r)
	}
	c.Send(Message{Type: TypeAnswer, Reply: &Reply{ID: r.ID, Verdict: Allow, Scope: Session}})
	if got := <-d; !got.Allowed() || got.Rule.String() != "builtin:ask-socket" {
		t.Errorf("%+v", got)
	}
	if m := next(t, c, TypeSettled); m.Settled.ID != r.ID || m.Settled.Verdict != Allow || m.Settled.By != "socket" {
		t.Errorf("settled %+v", m.Settled)
	}
	// Two answers.
	c.Send(Message{Type: TypeAnswer, Reply: &Reply{ID: r.ID}})
	if m := next(t, c, TypeError); m.ID != r.ID || !strings.Contains(m.Error, "no such question") {
		t.Errorf("a second answer: %+v", m)
	}
	if m, err := c.Call(Message{Type: TypeList}); err != nil || len(m.List) != 1 || m.List[0].Match != "example.com:443" {
		t.Errorf("list %+v, %v", m.List, err)
	}
	if m, err := c.Call(Message{Type: TypeForget, Match: "example.com:443"}); err != nil || m.N != 1 {
		t.Errorf("forgot %d, %v", m.N, err)
	}
}

func TestABareReplyIsAnAnswer(t *testing.T) {
	b, path := served(t, Config{Asking: true})
	c := dialled(t, path, WantAsk)
	somebody(t, b)
	d := asked(t, b, "example.com:443")
	fmt.Fprintf(c.conn, "{\"id\":%q,\"verdict\":\"allow\"}\n", next(t, c, TypeAsk).Request.ID)
	if got := <-d; !got.Allowed() {
		t.Errorf("%+v", got)
	}
}

// A helper that crashes, that says what is no answer, or nothing.
func TestAHelperThatFailsRefuses(t *testing.T) {
	for name, does := range map[string]func(c *Client, id string){
		"crash":             func(c *Client, _ string) { c.Close() },
		"end of its output": func(c *Client, _ string) { c.conn.(*net.UnixConn).CloseWrite() },
		"half an answer":    func(c *Client, id string) { fmt.Fprintf(c.conn, `{"id":%q,"verdict":"allow"`, id); c.Close() },
		"garbage":           func(c *Client, _ string) { io.WriteString(c.conn, "yes\n") },
		"noise":             func(c *Client, _ string) { io.WriteString(c.conn, "\x00\xff\x1b[2J\n") },
		"a long line":       func(c *Client, _ string) { io.WriteString(c.conn, strings.Repeat("x", 2*maxLine)) },
		"a bad verdict":     func(c *Client, id string) { fmt.Fprintf(c.conn, "{\"id\":%q,\"verdict\":\"yes\"}\n", id) },
		"a bad reply": func(c *Client, id string) {
			fmt.Fprintf(c.conn, "{\"type\":\"answer\",\"reply\":{\"id\":%q,\"verdict\":\"allow\",\"x\":1}}\n", id)
		},
		"hang": func(*Client, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			b, path := served(t, Config{Asking: true})
			c := dialled(t, path, WantAsk)
			somebody(t, b)
			d := asked(t, b, "example.com:443")
			does(c, next(t, c, TypeAsk).Request.ID)
			if name == "hang" {
				timeOut(b)
			}
			select {
			case got := <-d:
				if got.Allowed() {
					t.Errorf("%+v", got)
				}
			case <-time.After(20 * time.Second):
				t.Error("it is held still")
			}
		})
	}
}

func TestEventsAreHeardAsTheyHappenAndWhatWasRefusedCanBeAllowed(t *testing.T) {
	b, path := served(t, Config{Asking: true})
	c := dialled(t, path, WantEvents)
	eventually(t, "watcher", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.watchers) == 1 })
	if got := <-asked(t, b, "example.com:443"); got.Allowed() {
		t.Fatalf("%+v: who only watches is asked", got)
	}
	b.Event(event.Event{Verdict: event.Deny, Operation: event.NetConnect, Object: event.Object{Host: "example.com", Port: 443}, Detail: "\x1b[2J"})
	if m := next(t, c, TypeEvent); m.Event.Object.Host != "example.com" || m.Event.Detail != "\x1b[2J" {
		t.Errorf("%+v", m.Event)
	}
	if _, err := c.Call(Message{Type: TypeGrant, Reply: &Reply{Verdict: Allow, Scope: Session, Match: "example.com"}}); err != nil {
		t.Fatal(err)
	}
	if got := <-asked(t, b, "example.com:443"); !got.Allowed() {
		t.Errorf("%+v", got)
	}
	if _, err := c.Call(Message{Type: TypeGrant, Reply: &Reply{Verdict: Allow, Scope: Session, Match: "*"}}); err == nil {
		t.Error("everything is granted")
	}
}

func TestWhoDoesNotSayWhatItWantsIsNotServed(t *testing.T) {
	b, path := served(t, Config{Asking: true})
	for _, first := range []string{"\n", `{"type":"list"}` + "\n", `{"type":"hello","want":["everything"]}` + "\n", `{"type":"grant","reply":{"verdict":"allow","scope":"session","match":"example.com"}}` + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, first)
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, TypeError) {
			t.Errorf("%q: %q, %v", first, line, err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q: it goes on", first)
		}
		conn.Close()
	}
	if len(b.Remembered()) != 0 {
		t.Error("something is granted")
	}
}

func TestTheSocketIsTheUsersOwn(t *testing.T) {
	_, path := served(t, Config{})
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := Listen(New(Config{}), path, false); err == nil {
		t.Error("a second one is made at the same place")
	}
	selfAllowed = false
	defer func() { selfAllowed = true }()
	if c, err := Dial(path); err == nil { // as the supervisor would for a sandbox
		c.Close()
		t.Error("the sandbox's own side is heard")
	}
}

func TestALongPathIsNoHindrance(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system has no names for descriptors")
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ask")
	s, err := Listen(New(Config{Session: "far"}), path, false)
	if err != nil {
		t.Fatal(err)
	}
	if c := dialled(t, path); c.Hello.Session != "far" {
		t.Errorf("%+v", c.Hello)
	}
	s.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
}

func TestOnlySoManyProgramsAreServed(t *testing.T) {
	_, path := served(t, Config{})
	for range maxClients {
		dialled(t, path)
	}
	if c, err := Dial(path); err == nil {
		c.Close()
		t.Error("one too many")
	}
}

func TestExpectedCompanyIsWaitedFor(t *testing.T) {
	b := New(Config{Asking: true})
	defer b.Close()
	path := filepath.Join(t.TempDir(), "ask")
	s, err := Listen(b, path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := asked(t, b, "example.com:443")
	open(t, b, 1)
	c := dialled(t, path, WantAsk)
	c.Send(Message{Type: TypeAnswer, Reply: &Reply{ID: next(t, c, TypeAsk).Request.ID, Verdict: Allow}})
	if got := <-d; !got.Allowed() {
		t.Errorf("%+v", got)
	}
	d = asked(t, b, "example.org:443")
	open(t, b, 1)
	c.Close()
	if got := <-d; got.Allowed() || got.Reason != event.Unanswered {
		t.Errorf("when it has gone again: %+v", got)
	}
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{`{"type":"hello","want":["ask"]}`, `{"type":"answer","reply":{"id":"a","verdict":"allow"}}`,
		`{"type":"forget","match":"x"}`, `{"id":"a","verdict":"deny"}`, `{"type":"grant"}`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if m.Reply != nil && m.Reply.Verdict == Allow {
			raw, _ := json.Marshal(m.Reply)
			if _, again := ParseReply(raw); again != nil {
				t.Fatalf("%q: %+v, %v, %v", line, m.Reply, err, again)
			}
		}
	})
}
