package ask

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("no %s in time", what)
}

// asked asks beside, and gives the decision when there is one.
func asked(t testing.TB, b *Broker, host string) <-chan policy.Decision {
	t.Helper()
	out := make(chan policy.Decision, 1)
	q := Question{Req: target(t, host), Kind: KindConnect, Via: "transparent", Default: policy.Decision{Ask: true, Fix: "fix it"}}
	go func() { out <- b.Ask(context.Background(), q) }()
	return out
}

// open waits for n open questions.
func open(t testing.TB, b *Broker, n int) []Request {
	t.Helper()
	eventually(t, fmt.Sprintf("%d questions", n), func() bool { return len(b.Pending()) == n })
	return b.Pending()
}

func watched(t testing.TB, cfg Config) (*Broker, *Watcher) {
	cfg.Asking = true
	b := New(cfg)
	t.Cleanup(b.Close)
	return b, b.Watch(true, false)
}

// timeOut is the end of every open question's time.
func timeOut(b *Broker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(b.table.expire(time.Now().Add(24 * time.Hour)))
}

func TestTheFirstAnswerCountsAndEveryOtherIsToldSo(t *testing.T) {
	b, _ := watched(t, Config{})
	d := asked(t, b, "example.com:443")
	id := open(t, b, 1)[0].ID
	if err := b.Reply(Reply{ID: id, Verdict: Allow}, "tty"); err != nil {
		t.Fatal(err)
	}
	if got := <-d; !got.Allowed() || got.Rule.String() != "builtin:ask-tty" || got.Reason != event.UserAnswer {
		t.Errorf("%+v", got)
	}
	for _, r := range []Reply{{ID: id}, {ID: id, Verdict: Allow, Scope: Always}, {ID: "invented", Verdict: Allow}} {
		if err := b.Reply(r, "socket"); !errors.Is(err, ErrGone) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if s, ok := b.Outcome(id); !ok || s.Verdict != Allow || s.By != "tty" {
		t.Errorf("outcome %+v", s)
	}
	if again := asked(t, b, "example.com:443"); len(b.Remembered()) != 0 {
		t.Error("once is remembered")
	} else {
		open(t, b, 1)
		b.Close()
		<-again
	}
}

func TestALateAnswerChangesNothing(t *testing.T) {
	b, _ := watched(t, Config{})
	d := asked(t, b, "example.com:443")
	id := open(t, b, 1)[0].ID
	timeOut(b)
	if got := <-d; got.Allowed() || got.Reason != event.Unanswered || got.Fix != "fix it" {
		t.Errorf("%+v", got)
	}
	if err := b.Reply(Reply{ID: id, Verdict: Allow, Scope: Session}, "tty"); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	// Who is refused tries again at once, and is not held again.
	if got := <-asked(t, b, "example.com:443"); got.Allowed() || got.Rule.String() != "builtin:ask-timeout" {
		t.Errorf("%+v", got)
	}
}

func TestSilenceIsARefusal(t *testing.T) {
	b, _ := watched(t, Config{Timeout: 10 * time.Millisecond})
	if got := <-asked(t, b, "example.com:443"); got.Allowed() || got.Reason != event.Unanswered {
		t.Errorf("%+v", got)
	}
}

func TestARefusalHoldsForAWhileAndThenItIsAskedAgain(t *testing.T) {
	b, _ := watched(t, Config{negative: 50 * time.Millisecond})
	d := asked(t, b, "example.com:443")
	b.Reply(Reply{ID: open(t, b, 1)[0].ID, Reason: "no"}, "tty")
	if got := <-d; got.Allowed() || got.Text != "no" {
		t.Errorf("%+v", got)
	}
	eventually(t, "question again", func() bool {
		select {
		case got := <-asked(t, b, "example.com:443"):
			if got.Allowed() || got.Text != "no" {
				t.Fatalf("%+v", got)
			}
			return false
		case <-time.After(20 * time.Millisecond):
			return len(b.Pending()) == 1
		}
	})
}

func TestAnAnswerThatCannotBeMeantDenies(t *testing.T) {
	for name, r := range map[string]Reply{
		"about another host":      {Verdict: Allow, Scope: Session, Match: "example.org"},
		"about everything":        {Verdict: Allow, Scope: Session, Match: "*"},
		"about a public suffix":   {Verdict: Allow, Scope: Session, Match: "*.com"},
		"about no host":           {Verdict: Allow, Scope: Session, Match: "a b\x1b"},
		"about another port":      {Verdict: Allow, Match: "example.com:80"},
		"once, about more":        {Verdict: Allow, Match: "example.com"},
		"an authorizer's verdict": {Verdict: Pass},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := watched(t, Config{})
			d := asked(t, b, "example.com:443")
			r.ID = open(t, b, 1)[0].ID
			if err := b.Reply(r, "socket"); err == nil || errors.Is(err, ErrGone) {
				t.Errorf("error %v", err)
			}
			if got := <-d; got.Allowed() {
				t.Errorf("%+v", got)
			}
			if got := b.Remembered(); len(got) != 0 {
				t.Errorf("remembered %+v", got)
			}
		})
	}
}

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		name       string
		r          Reply
		same, wide bool // asked again: the same host and port, another host of the owner
		allowed    bool
	}{
		{"once", Reply{Verdict: Allow}, true, true, false},
		{"session", Reply{Verdict: Allow, Scope: Session}, false, true, true},
		{"session, wide", Reply{Verdict: Allow, Scope: Session, Match: "*.example.com"}, false, false, true},
		{"for a time", Reply{Verdict: Allow, Scope: TTL, TTL: 3600}, false, true, true},
		{"denied for the session", Reply{Scope: Session}, false, true, false},
		{"everything denied", Reply{Scope: Session, Match: "*"}, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := watched(t, Config{Timeout: time.Hour})
			d := asked(t, b, "a.example.com:443")
			c.r.ID = open(t, b, 1)[0].ID
			if err := b.Reply(c.r, "tty"); err != nil {
				t.Fatal(err)
			}
			<-d
			for host, again := range map[string]bool{"a.example.com:443": c.same, "b.example.com:443": c.wide} {
				b.Close() // what is asked again ends; what is remembered is not
				got := <-asked(t, b, host)
				if again != (got.Rule.String() != "builtin:ask-tty") {
					t.Errorf("%s: asked again %v, got %+v", host, !again, got)
				}
				if !again && got.Allowed() != c.allowed {
					t.Errorf("%s: %+v", host, got)
				}
			}
		})
	}
}

func TestAnAnswerForATimeEnds(t *testing.T) {
	b, _ := watched(t, Config{})
	var mu sync.Mutex
	now := time.Now()
	b.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	if err := b.Grant(Reply{Verdict: Allow, Scope: TTL, TTL: 60, Match: "example.com"}, "socket"); err != nil {
		t.Fatal(err)
	}
	if got := <-asked(t, b, "example.com:443"); !got.Allowed() {
		t.Errorf("%+v", got)
	}
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	if len(b.Remembered()) != 0 {
		t.Error("it is listed after its end")
	}
	asked(t, b, "example.com:443")
	open(t, b, 1)
}

func TestAWideAnswerSettlesWhatElseIsOpen(t *testing.T) {
	b, _ := watched(t, Config{})
	one, two, other := asked(t, b, "a.example.com:443"), asked(t, b, "b.example.com:80"), asked(t, b, "a.example.org:443")
	for _, r := range open(t, b, 3) {
		if r.Host == "a.example.com" {
			if err := b.Reply(Reply{ID: r.ID, Verdict: Allow, Scope: Session, Match: "*.example.com"}, "tty"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a, b := <-one, <-two; !a.Allowed() || !b.Allowed() {
		t.Errorf("%+v, %+v", a, b)
	}
	if left := open(t, b, 1); left[0].Host != "a.example.org" {
		t.Errorf("left %+v", left)
	}
	b.Close()
	if got := <-other; got.Allowed() {
		t.Errorf("%+v", got)
	}
}

func TestWhenTheLastAnswererGoesWhatIsOpenIsRefused(t *testing.T) {
	b, first := watched(t, Config{})
	second := b.Watch(true, false)
	b.Watch(false, true) // only looks on
	d := asked(t, b, "example.com:443")
	open(t, b, 1)
	first.Stop()
	open(t, b, 1)
	second.Stop()
	if got := <-d; got.Allowed() || got.Reason != event.Unanswered || got.Rule.String() != "builtin:ask-disconnect" {
		t.Errorf("%+v", got)
	}
	if got := <-asked(t, b, "example.com:443"); got.Allowed() || !strings.Contains(got.Text, "nobody") {
		t.Errorf("with nobody left: %+v", got)
	}
	first = b.Watch(true, false)
	first.Absent(false)
	if got := <-asked(t, b, "example.com:443"); got.Allowed() || !strings.Contains(got.Text, "nobody") {
		t.Errorf("with nobody there: %+v", got)
	}
	first.Present()
	asked(t, b, "example.com:443")
	open(t, b, 1)
}

func TestAQuestionIsThatOfAllThatWait(t *testing.T) {
	b, _ := watched(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan policy.Decision, 1)
	go func() { gone <- b.Ask(ctx, Question{Req: target(t, "example.com:443")}) }()
	d := asked(t, b, "example.com:443")
	eventually(t, "both", func() bool { p := b.Pending(); return len(p) == 1 && p[0].Pending == 2 })
	cancel()
	if got := <-gone; got.Allowed() {
		t.Errorf("%+v", got)
	}
	if p := open(t, b, 1); p[0].Pending != 1 {
		t.Errorf("%+v", p)
	}
	b.Reply(Reply{ID: b.Pending()[0].ID, Verdict: Allow}, "tty")
	if got := <-d; !got.Allowed() {
		t.Errorf("%+v", got)
	}
}

func TestAlwaysIsRememberedOutsideOrSaidNotToBe(t *testing.T) {
	var wrote []string
	b, _ := watched(t, Config{Remember: func(allow bool, entry string) error {
		wrote = append(wrote, fmt.Sprint(allow, " ", entry))
		return nil
	}})
	d := asked(t, b, "example.com:443")
	if err := b.Reply(Reply{ID: open(t, b, 1)[0].ID, Verdict: Allow, Scope: Always}, "tty"); err != nil {
		t.Fatal(err)
	}
	<-d
	if err := b.Grant(Reply{Scope: Always, Match: "*.example.org"}, "socket"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"true example.com:443", "false *.example.org"}; !reflect.DeepEqual(wrote, want) {
		t.Errorf("wrote %q", wrote)
	}
	b.cfg.Remember = nil
	err := b.Grant(Reply{Verdict: Allow, Scope: Always, Match: "example.net"}, "socket")
	if err == nil || !strings.Contains(err.Error(), "until the sandbox ends") {
		t.Errorf("error %v", err)
	}
	if got := <-asked(t, b, "example.net:80"); !got.Allowed() {
		t.Errorf("%+v", got)
	}
	if b.Forget("example.net") != 1 || b.Forget("example.net") != 0 || len(b.Remembered()) != 2 {
		t.Errorf("left %+v", b.Remembered())
	}
}

func TestNothingIsGrantedWhereAskingIsOff(t *testing.T) {
	b := New(Config{})
	b.Watch(true, true)
	if err := b.Grant(Reply{Verdict: Allow, Scope: Session, Match: "example.com"}, "socket"); err == nil {
		t.Error("it is taken")
	}
	if got := <-asked(t, b, "example.com:443"); got.Allowed() || got.Fix != "fix it" {
		t.Errorf("%+v", got)
	}
}

func TestASlowWatcherIsToldHowMuchItMissed(t *testing.T) {
	b, w := watched(t, Config{})
	all := b.Watch(false, true)
	for range maxEvents + 7 {
		b.Event(event.Event{Rule: "r"})
	}
	if events, lost := all.Events(); len(events) != maxEvents || lost != 7 {
		t.Errorf("%d, %d lost", len(events), lost)
	}
	if events, _ := w.Events(); len(events) != 0 {
		t.Error("events for who wants none")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	tb := newTable(limits{64, 64, time.Minute, time.Minute})
	now := time.Now()
	for i := range maxRefusals + 100 {
		tb.refuse(target(t, fmt.Sprintf("n%d.example.com:1", i)), Outcome{}, now)
	}
	if len(tb.refusals) > maxRefusals {
		t.Errorf("%d refusals", len(tb.refusals))
	}
	for i := range maxGrants + 100 {
		rule, _ := policy.ParseHostRule(fmt.Sprintf("n%d.example.com", i), true)
		tb.grant(rule, Reply{Verdict: Allow}, "tty", now)
	}
	if len(tb.grants) > maxGrants {
		t.Errorf("%d grants", len(tb.grants))
	}
}
