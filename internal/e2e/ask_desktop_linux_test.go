package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/sallyport/sallyport/internal/event"
)

func init() {
	helpers["notifications"] = notifications
	helpers["many-names"] = manyNames
}

// notifier is a notification server whose user presses one button.
type notifier struct {
	conn *dbus.Conn
	key  string
	n    atomic.Uint32
}

const notificationsName = "org.freedesktop.Notifications"

func (s *notifier) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body", "body-markup"}, nil
}

func (s *notifier) Notify(app string, replaces uint32, icon, summary, body string, actions []string, hints map[string]dbus.Variant, expire int32) (uint32, *dbus.Error) {
	id := s.n.Add(1)
	fmt.Printf("shown %s | %s | %s\n", summary, strings.ReplaceAll(body, "\n", " / "), strings.Join(actions, ","))
	if len(actions) > 0 {
		time.AfterFunc(50*time.Millisecond, func() {
			s.conn.Emit("/org/freedesktop/Notifications", notificationsName+".ActionInvoked", id, s.key)
		})
	}
	return id, nil
}

func (s *notifier) CloseNotification(uint32) *dbus.Error { return nil }

// notifications serves the session's bus.
func notifications() {
	conn, err := dbus.ConnectSessionBus()
	if err == nil {
		err = conn.Export(&notifier{conn: conn, key: os.Args[1]}, "/org/freedesktop/Notifications", notificationsName)
	}
	if err == nil {
		_, err = conn.RequestName(notificationsName, dbus.NameFlagDoNotQueue)
	}
	fmt.Println("serving", err)
	time.Sleep(10 * time.Minute)
}

// desktop gives a home a session with a desktop whose user presses a button.
func (h *home) desktop(key string) (shown func() string) {
	h.t.Helper()
	need(h.t, "dbus-daemon")
	dir := h.mkdir("bus")
	conf := h.write("bus/conf", `<busconfig><type>session</type><listen>unix:path=`+dir+`/s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`)
	h.env = append(h.env, "DBUS_SESSION_BUS_ADDRESS=unix:path="+dir+"/s")
	h.beside("bus/said", "/usr/bin/dbus-daemon", "--config-file="+conf, "--nofork", "--nosyslog", "--print-address=1")
	until(h.t, "the session's bus", func() bool { return h.read("bus/said") != "" })
	h.beside("bus/shown", "/usr/bin/env", helperEnv+"=notifications", h.helperPath(), key)
	until(h.t, "the notification server", func() bool { return strings.HasPrefix(h.read("bus/shown"), "serving <nil>") })
	return func() string { return h.read("bus/shown") }
}

// beside runs a program of the user's for as long as the test, with its
// output in a file.
func (h *home) beside(out, name string, args ...string) {
	h.t.Helper()
	f, err := os.Create(h.dir + "/" + out)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.program(context.Background(), name, args...)
	cmd.SysProcAttr.Pdeathsig = 0 // it outlives the thread that starts it
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("start %s: %v", name, err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); f.Close() })
}

func TestTheDesktopAnswersAndIsTold(t *testing.T) {
	need(t, "curl")
	h := newHome(t).usePolicy("ask: {via: [desktop], timeout: 1m}\nnetwork: {deniedDomains: [denied.test]}")
	shown := h.desktop("once")
	r := h.runWith([]string{"--notify", "--name", "<b>build"}, "sh", "-c", `for host in allowed.test denied.test; do curl -sS -o /dev/null -w '%{http_code} ' http://$host/x; done`)
	r.says("200 403 ")
	for _, want := range []string{"shown Allow allowed.test port 80? | process ", "&lt;b&gt;build", "once,Once,session,This run,deny,Deny", "shown sallyport: denied | curl: net.connect denied.test port 80 (rule-denied)"} {
		if !strings.Contains(shown(), want) {
			t.Errorf("%q is not shown:\n%s", want, shown())
		}
	}
	for _, e := range r.events {
		if e.Object.Host == "allowed.test" && e.Rule != "builtin:ask-desktop" {
			t.Errorf("%+v", e)
		}
	}
}

// manyNames wants to be connected to as many names at once as it is told, and
// meanwhile to one that is allowed.
func manyNames() {
	total, _ := strconv.Atoi(os.Args[1])
	u, _ := url.Parse(os.Getenv("HTTP_PROXY"))
	var refused, other atomic.Int64
	var wg sync.WaitGroup
	names := make(chan int)
	for range 300 { // of which those that are held wait
		go func() {
			for n := range names {
				switch status, err := connectVia(u.Host, fmt.Sprintf("n%d.names.test:443", n)); {
				case err == nil && status == http.StatusForbidden:
					refused.Add(1)
				default:
					other.Add(1)
				}
				wg.Done()
			}
		}()
	}
	wg.Add(total)
	for n := range total {
		names <- n
		if n == total/2 {
			status, err := connectVia(u.Host, "allowed.test:80")
			fmt.Println("meanwhile", status, err)
		}
	}
	wg.Wait()
	fmt.Println("refused", refused.Load(), "other", other.Load())
}

func connectVia(proxy, target string) (int, error) {
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

func TestManyNamesAtOnceHoldNothingElseUp(t *testing.T) {
	total := 2000
	if os.Getenv("SALLYPORT_E2E_LONG") != "" {
		total = 10000
	}
	h := newHome(t).usePolicy("ask: {via: [socket], timeout: 5s}\nnetwork: {allowedDomains: [allowed.test]}")
	r := h.helperWith([]string{"--ask-socket", h.dir + "/asks"}, "many-names", strconv.Itoa(total))
	r.says("meanwhile 200 <nil>").says(fmt.Sprintf("refused %d other 0", total))
	reasons := map[event.Reason]uint64{}
	for _, e := range r.events {
		if e.Verdict == event.AskDenied {
			reasons[e.Reason] += e.Count
		}
	}
	if reasons[event.Unanswered] == 0 || reasons[event.LimitExceeded] == 0 || reasons[event.Unanswered]+reasons[event.LimitExceeded] != uint64(total) {
		t.Errorf("recorded %v", reasons)
	}
}
