package desktop

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

// session starts a real session bus and makes it this process's.
func session(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	dir, err := os.MkdirTemp("/tmp", "bus-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "conf")
	os.WriteFile(conf, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=`+dir+`/s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600)
	cmd := exec.Command("dbus-daemon", "--config-file="+conf, "--nofork", "--nosyslog", "--print-address=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("dbus-daemon does not start: %v", err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+dir+"/s")
}

// server is a notification server.
type server struct {
	t    *testing.T
	conn *dbus.Conn
	caps []string

	mu    sync.Mutex
	last  uint32
	notes map[uint32]note // shown now
	all   int             // ever
	hang  bool
}

type note struct {
	id            uint32
	summary, body string
	actions       []string
	urgency       byte
}

func serve(t *testing.T, caps ...string) *server {
	t.Helper()
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &server{t: t, conn: conn, caps: caps, notes: map[uint32]note{}}
	if err := conn.Export(s, object, service); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName(service, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own the name: %v, %v", r, err)
	}
	return s
}

func (s *server) GetCapabilities() ([]string, *dbus.Error) { return s.caps, nil }

func (s *server) Notify(app string, replaces uint32, icon, summary, body string, actions []string, hints map[string]dbus.Variant, expire int32) (uint32, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang {
		return 0, dbus.MakeFailedError(fmt.Errorf("out of order"))
	}
	id := replaces
	if id == 0 {
		s.last++
		id = s.last
	}
	s.all++
	u, _ := hints["urgency"].Value().(byte)
	s.notes[id] = note{id, summary, body, actions, u}
	return id, nil
}

func (s *server) CloseNotification(id uint32) *dbus.Error {
	s.mu.Lock()
	delete(s.notes, id)
	s.mu.Unlock()
	return nil
}

// emit sends a signal as the server.
func (s *server) emit(name string, args ...any) {
	if err := s.conn.Emit(object, service+"."+name, args...); err != nil {
		s.t.Error(err)
	}
}

// shown waits for n notifications.
func (s *server) shown(n int) (all []note) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d notifications", n), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		all = nil
		for _, x := range s.notes {
			all = append(all, x)
		}
		return len(all) == n
	})
	return all
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("no %s in time", what)
}

func question(t testing.TB, host string) ask.Question {
	t.Helper()
	req, err := policy.ParseNetTarget(host)
	if err != nil {
		t.Fatal(err)
	}
	return ask.Question{Req: req, Kind: ask.KindConnect, Via: "connect", Process: &event.Process{PID: 7, Argv: []event.Text{"curl", "<b>x</b>\x1b\u202e\n"}}}
}

// asked asks beside, and gives the decision when there is one.
func asked(t testing.TB, b *ask.Broker, host string) <-chan policy.Decision {
	q, out := question(t, host), make(chan policy.Decision, 1)
	go func() { out <- b.Ask(context.Background(), q) }()
	return out
}

func asking(t *testing.T, cfg ask.Config) (*ask.Broker, *Bus) {
	t.Helper()
	cfg.Asking = true
	b := ask.New(cfg)
	bus, err := Connect()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := Ask(b, bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); stop(); bus.Close() })
	return b, bus
}

func TestAButtonAnswers(t *testing.T) {
	session(t)
	s := serve(t, "actions", "body", "body-markup")
	for key, want := range map[string]struct{ allowed, remembered bool }{
		"once": {true, false}, "session": {true, true}, "deny": {false, false}, "invented": {false, false}, "always": {true, true},
	} {
		t.Run(key, func(t *testing.T) {
			b, _ := asking(t, ask.Config{Session: "a1", Name: "<i>"})
			d := asked(t, b, "example.com:443")
			n := s.shown(1)[0]
			if n.summary != "Allow example.com port 443?" || n.urgency != 2 || strings.Join(n.actions, ",") != "once,Once,session,This run,deny,Deny" {
				t.Errorf("%+v", n)
			}
			s.emit("ActionInvoked", n.id, key)
			if got := <-d; got.Allowed() != want.allowed || got.Rule.String() != "builtin:ask-desktop" {
				t.Errorf("%+v", got)
			}
			if got := len(b.Remembered()) > 0; got != want.remembered {
				t.Errorf("remembered %v", got)
			}
			if key == "always" { // could not be written down, and that is said
				eventually(t, "word of it", func() bool { return len(s.shown(1)) == 1 && strings.Contains(s.shown(1)[0].body, "not remembered") })
				s.mu.Lock()
				clear(s.notes)
				s.mu.Unlock()
				return
			}
			s.shown(0)
		})
	}
}

func TestWhatANotificationShowsIsHarmless(t *testing.T) {
	session(t)
	s := serve(t, "actions", "body-markup")
	b, _ := asking(t, ask.Config{Name: "<a href='x'>\x1b]0;", Session: "a1"})
	asked(t, b, "xn--pple-43d.com:443")
	n := s.shown(1)[0]
	for _, c := range n.summary + n.body {
		if c != '\n' && (c < ' ' || c > '~') || c == '<' || c == '>' {
			t.Errorf("%q in %q, %q", c, n.summary, n.body)
		}
	}
	if strings.Count(n.body, "\n") != 1 || !strings.Contains(n.summary, "xn--pple-43d.com") || !strings.Contains(n.body, "&lt;b&gt;") {
		t.Errorf("%q, %q", n.summary, n.body)
	}
}

func TestOnlyTheServersWordCounts(t *testing.T) {
	session(t)
	s := serve(t, "actions")
	b, _ := asking(t, ask.Config{})
	d := asked(t, b, "example.com:443")
	n := s.shown(1)[0]
	other, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Emit(object, service+".ActionInvoked", n.id, "session")
	s.emit("ActionInvoked", n.id+1, "session")            // another program's notification
	s.emit("ActionInvoked", "x", "session")               // not of the form
	s.emit("ActionInvoked", n.id, "deny")                 // the first that counts
	s.emit("ActionInvoked", n.id, "session")              // a second answer
	s.emit("NotificationClosed", n.id, uint32(dismissed)) // and what follows one
	if got := <-d; got.Allowed() || len(b.Remembered()) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestPutAsideIsNoAnswer(t *testing.T) {
	session(t)
	s := serve(t, "actions")
	b, _ := asking(t, ask.Config{})
	d := asked(t, b, "example.com:443")
	n := s.shown(1)[0]
	s.mu.Lock()
	delete(s.notes, n.id)
	s.mu.Unlock()
	s.emit("NotificationClosed", n.id, uint32(dismissed))
	other := asked(t, b, "example.org:443")
	eventually(t, "the other", func() bool { all := s.shown(1); return strings.Contains(all[0].summary, "example.org") })
	if len(b.Pending()) != 2 {
		t.Errorf("open: %+v", b.Pending())
	}
	b.Close()
	if a, b := <-d, <-other; a.Allowed() || b.Allowed() {
		t.Error("allowed")
	}
}

func TestNotMoreThanAFewAreShownAtOnce(t *testing.T) {
	session(t)
	s := serve(t, "actions")
	b, _ := asking(t, ask.Config{})
	for i := range 20 {
		asked(t, b, fmt.Sprintf("n%d.example.com:443", i))
	}
	for left := 20; left > 0; left-- {
		all := s.shown(min(left, mostNotes))
		s.emit("ActionInvoked", all[0].id, "deny")
		eventually(t, "its end", func() bool { return len(b.Pending()) == left-1 })
		eventually(t, "it to go", func() bool { s.mu.Lock(); defer s.mu.Unlock(); _, there := s.notes[all[0].id]; return !there })
	}
}

func TestADesktopThatFailsRefuses(t *testing.T) {
	for name, fails := range map[string]func(s *server){
		"the server ends":      func(s *server) { s.conn.Close() },
		"it gives its name up": func(s *server) { s.conn.ReleaseName(service) },
	} {
		t.Run(name, func(t *testing.T) {
			session(t)
			s := serve(t, "actions")
			b, _ := asking(t, ask.Config{Timeout: time.Hour})
			d := asked(t, b, "example.com:443")
			s.shown(1)
			fails(s)
			if got := <-d; got.Allowed() || got.Reason != event.Unanswered {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("it shows nothing", func(t *testing.T) {
		session(t)
		s := serve(t, "actions")
		s.hang = true
		b, _ := asking(t, ask.Config{Timeout: time.Hour})
		if got := <-asked(t, b, "example.com:443"); got.Allowed() || got.Reason != event.Unanswered {
			t.Errorf("%+v", got)
		}
	})
}

func TestWithoutADesktopThatCanAnswerNobodyIsThere(t *testing.T) {
	session(t)
	if _, err := Connect(); err == nil {
		t.Error("there is no server, and it is reached")
	}
	serve(t, "body")
	bus, err := Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	if _, err := Ask(ask.New(ask.Config{Asking: true}), bus); err != ErrNoActions {
		t.Errorf("error %v", err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/no/such/bus")
	if _, err := Connect(); err == nil {
		t.Error("there is no bus, and it is reached")
	}
}

func TestDenialsAreToldInOneNotification(t *testing.T) {
	session(t)
	s := serve(t)
	bus, err := Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	b := ask.New(ask.Config{})
	stop := Tell(b, bus)
	denied := event.Event{Verdict: event.Deny, Operation: event.NetConnect, Reason: event.NotAllowed, Count: 1,
		Object: event.Object{Host: "evil.example\x1b", Port: 443}, Process: &event.Process{Comm: "curl"}}
	b.Event(event.Event{Verdict: event.Allow, Count: 1})
	b.Event(denied)
	if n := s.shown(1)[0]; n.summary != "sallyport: denied" || n.body != `curl: net.connect evil.example\\x1b port 443 (not-allowed)` {
		t.Errorf("%+v", n)
	}
	for range 10000 {
		b.Event(denied)
	}
	stop()
	if n := s.shown(1)[0]; n.summary != "sallyport: denied 10001 times" {
		t.Errorf("%+v", n)
	}
	if s.all > 5 {
		t.Errorf("%d notifications for one flood", s.all)
	}
}
