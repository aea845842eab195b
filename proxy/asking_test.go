package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	asks "github.com/sallyport/sallyport/proxy/ask"
)

const askable = "{ask: {}, network: {allowedDomains: [ok.test], deniedDomains: [never.test]}}"

// asked is a rig whose open questions a broker holds.
func asked(t testing.TB, cfg asks.Config) (*rig, *asks.Broker) {
	t.Helper()
	cfg.Asking = true
	b := asks.New(cfg)
	t.Cleanup(b.Close)
	r := newRig(t, askable, func(c *Config) { c.Ask = b.Ask })
	for _, name := range []string{"ok.test", "new.test", "other.test", "inside.test"} {
		r.outside(name, 7000, serveTCP(t, echo))
	}
	return r, b
}

// answerAll answers every question as f says.
func answerAll(t testing.TB, b *asks.Broker, f func(asks.Request) asks.Reply) (seen func() []asks.Request) {
	w := b.Watch(true, false)
	var mu sync.Mutex
	var all []asks.Request
	ended := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-w.C:
			case <-stop:
				return
			}
			for _, r := range b.Pending() {
				mu.Lock()
				all = append(all, r)
				mu.Unlock()
				reply := f(r)
				reply.ID = r.ID
				b.Reply(reply, "tty")
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended; w.Stop() })
	return func() []asks.Request {
		mu.Lock()
		defer mu.Unlock()
		return append([]asks.Request(nil), all...)
	}
}

// askedDoors are the ways in; each reports whether the connection came through.
var askedDoors = map[string]func(r *rig, host string) bool{
	"transparent": func(r *rig, host string) bool { return echoes(dialTo(r.t, r.captureName(host, 7000))) },
	"connect": func(r *rig, host string) bool {
		c, resp, _ := r.connectTo(host + ":7000")
		return resp.StatusCode == 200 && echoes(c)
	},
	"socks5": func(r *rig, host string) bool {
		c, code := r.socksTo(host, 7000)
		return code == socksSucceeded && echoes(c)
	},
}

func echoes(c net.Conn) bool {
	if _, err := io.WriteString(c, "hello"); err != nil {
		return false
	}
	b := make([]byte, 5)
	_, err := io.ReadFull(c, b)
	return err == nil && string(b) == "hello"
}

func TestWhatIsOpenIsAskedThroughEveryDoor(t *testing.T) {
	for via, door := range askedDoors {
		for _, allow := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", via, allow), func(t *testing.T) {
				r, b := asked(t, asks.Config{})
				seen := answerAll(t, b, func(asks.Request) asks.Reply {
					if allow {
						return asks.Reply{Verdict: asks.Allow}
					}
					return asks.Reply{}
				})
				if got := door(r, "new.test"); got != allow {
					t.Errorf("came through: %v", got)
				}
				if got := seen(); len(got) != 1 || got[0].Via != via || got[0].Host != "new.test" || got[0].Port != 7000 {
					t.Errorf("asked: %+v", got)
				}
				if !allow {
					if e := r.wantDenial(event.UserAnswer); e.Verdict != event.AskDenied || e.Rule != "builtin:ask-tty" {
						t.Errorf("event %+v", e)
					}
					return
				}
				if all := r.allowances(); len(all) != 1 || all[0].Verdict != event.AskAllowed || all[0].Reason != event.UserAnswer {
					t.Errorf("events %s", show(all))
				}
			})
		}
	}
}

func TestWhatThePolicyDecidesIsNotAsked(t *testing.T) {
	r, b := asked(t, asks.Config{})
	seen := answerAll(t, b, func(asks.Request) asks.Reply { return asks.Reply{Verdict: asks.Allow} })
	for via, door := range askedDoors {
		if !door(r, "ok.test") {
			t.Errorf("%s: an allowed host is not reached", via)
		}
	}
	if _, code := r.socksTo("never.test", 7000); code != socksNotAllowed {
		t.Errorf("a denied host: reply %d", code)
	}
	if _, code := r.socksTo("10.0.0.1", 7000); code != socksNotAllowed {
		t.Errorf("a private address: reply %d", code)
	}
	if got := seen(); len(got) != 0 {
		t.Errorf("asked: %+v", got)
	}
}

func TestAnAllowedAnswerOpensNoPrivateAddress(t *testing.T) {
	r, b := asked(t, asks.Config{})
	answerAll(t, b, func(asks.Request) asks.Reply { return asks.Reply{Verdict: asks.Allow} })
	r.resolves("inside.test", "10.0.0.7")
	if _, code := r.socksTo("inside.test", 7000); code != socksNotAllowed {
		t.Errorf("reply %d", code)
	}
	r.wantDenial(event.AddressDenied)
	if _, dialled := r.wentOutside(); len(dialled) != 0 {
		t.Errorf("dialled %v", dialled)
	}
}

func TestWithNobodyToAskTheAnswerIsThePolicys(t *testing.T) {
	r, _ := asked(t, asks.Config{})
	if _, code := r.socksTo("new.test", 7000); code != socksNotAllowed {
		t.Errorf("reply %d", code)
	}
	if e := r.wantDenial(event.NotAllowed); e.Verdict != event.Deny || !strings.Contains(string(e.Detail), "nobody") {
		t.Errorf("event %+v", e)
	}
}

func TestAHeldConnectionIsCutAtTheDeadline(t *testing.T) {
	for via, door := range askedDoors {
		t.Run(via, func(t *testing.T) {
			r, b := asked(t, asks.Config{Timeout: 100 * time.Millisecond})
			defer b.Watch(true, false).Stop() // somebody who says nothing
			if door(r, "new.test") {
				t.Error("it came through")
			}
			if e := r.wantDenial(event.Unanswered); e.Verdict != event.AskDenied || e.Rule != "builtin:ask-timeout" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestAQuestionIsWithdrawnWithItsClient(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it cannot be told on this system that a client has gone")
	}
	r, b := asked(t, asks.Config{})
	defer b.Watch(true, false).Stop()
	c := dialTo(t, r.explicit)
	io.WriteString(c, "CONNECT new.test:7000 HTTP/1.1\r\nHost: new.test:7000\r\n\r\n")
	eventually(t, "question", func() bool { return len(b.Pending()) == 1 })
	c.Close()
	eventually(t, "end of the question", func() bool { return len(b.Pending()) == 0 })
	r.wantDenial(event.Unanswered)
}

func TestPlainRequestsAreAskedOnceAConnection(t *testing.T) {
	r, b := asked(t, asks.Config{})
	r.outside("new.test", 80, webServer(t, false, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.URL.Path) }))
	seen := answerAll(t, b, func(asks.Request) asks.Reply { return asks.Reply{Verdict: asks.Allow} })
	c := dialTo(t, r.explicit)
	for _, path := range []string{"/1", "/2"} {
		if _, body := ask(t, c, "GET http://new.test"+path+" HTTP/1.1\r\nHost: new.test\r\n\r\n"); body != path {
			t.Errorf("body %q", body)
		}
	}
	if got := seen(); len(got) != 1 || got[0].Kind != asks.KindHTTP || got[0].Via != "http" {
		t.Errorf("asked %+v", got)
	}
}

// 10 000 connections to as many names: what is beyond the queue is refused at
// once, what is allowed goes on meanwhile, and the answer to one opens no other.
func TestTenThousandNamesAtOnceHoldNobodyUp(t *testing.T) {
	const names, senders = 10000, 100
	r, b := asked(t, asks.Config{Timeout: time.Hour})
	w := b.Watch(true, false)
	defer w.Stop()
	var refused, held atomic.Int64
	var wg sync.WaitGroup
	s := func(host string) {
		q := asks.Question{Req: mustTarget(t, host), Kind: asks.KindConnect, Via: viaTransparent}
		switch d := b.Ask(context.Background(), q); d.Reason {
		case event.LimitExceeded:
			refused.Add(1)
		default:
			held.Add(1)
		}
	}
	for i := range senders {
		wg.Go(func() {
			for n := i; n < names; n += senders {
				done := make(chan struct{})
				go func() { s(fmt.Sprintf("n%d.example.com:443", n)); close(done) }()
				select {
				case <-done:
				case <-time.After(time.Millisecond): // it waits
				}
			}
		})
	}
	for via, door := range askedDoors {
		if !door(r, "ok.test") {
			t.Errorf("%s: an allowed host is held up", via)
		}
	}
	wg.Wait()
	if n := len(b.Pending()); n != asks.DefaultQuestions {
		t.Errorf("%d questions are open, want %d", n, asks.DefaultQuestions)
	}
	eventually(t, "refusal of the rest", func() bool { return refused.Load() == names-asks.DefaultQuestions })
	if held.Load() != 0 {
		t.Errorf("%d were decided by nobody", held.Load())
	}
	b.Close()
	eventually(t, "end", func() bool { return held.Load() == asks.DefaultQuestions })
}

// 10 000 connections to one name are one question.
func TestConnectionsToOneHostAreOneQuestion(t *testing.T) {
	const conns = 10000
	_, b := asked(t, asks.Config{Timeout: time.Hour, Waiting: conns})
	defer b.Watch(true, false).Stop()
	var allowed atomic.Int64
	for range conns {
		go func() {
			q := asks.Question{Req: mustTarget(t, "new.test:443"), Kind: asks.KindConnect, Via: viaTransparent}
			if b.Ask(context.Background(), q).Allowed() {
				allowed.Add(1)
			}
		}()
	}
	eventually(t, "one question of all", func() bool {
		p := b.Pending()
		return len(p) == 1 && p[0].Pending == conns
	})
	if d := b.Ask(context.Background(), asks.Question{Req: mustTarget(t, "new.test:443")}); d.Allowed() || d.Reason != event.LimitExceeded {
		t.Errorf("one too many: %+v", d)
	}
	if err := b.Reply(asks.Reply{ID: b.Pending()[0].ID, Verdict: asks.Allow}, "tty"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "answer for all", func() bool { return allowed.Load() == conns })
}

func TestAnAuthorizersDecisionIsNamedInTheEvent(t *testing.T) {
	answer := `{"verdict": "allow", "decision_id": "d-17"}`
	a := &asks.Authorizer{Timeout: 10 * time.Second, TTL: time.Minute, NegativeTTL: time.Minute,
		Call: func(context.Context, asks.Request) ([]byte, error) { return []byte(answer), nil }}
	b := asks.New(asks.Config{Authorizer: a})
	r := newRig(t, `network: {authorizer: {exec: [/x]}}`, func(c *Config) { c.Ask = b.Ask })
	r.outside("new.test", 7000, serveTCP(t, echo))
	if !askedDoors["socks5"](r, "new.test") {
		t.Error("it did not come through")
	}
	answer = `{"verdict": "deny", "decision_id": "d-18", "reason": "no \u001b[2J"}`
	if askedDoors["connect"](r, "other.test") {
		t.Error("it came through")
	}
	if e := r.wantDenial(event.AuthorizerAnswer); e.Decision != "d-18" || e.Verdict != event.AskDenied || e.Rule != "builtin:ask-authorizer" {
		t.Errorf("event %+v", e)
	}
	if all := r.allowances(); len(all) != 1 || all[0].Decision != "d-17" || all[0].Verdict != event.AskAllowed {
		t.Errorf("events %s", show(all))
	}
}

func mustTarget(t testing.TB, s string) policy.NetRequest {
	t.Helper()
	req, err := policy.ParseNetTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
