// Package ask lets somebody decide what a policy neither allows nor forbids:
// the user, through a terminal, a socket or the desktop, or an authorizer
// outside. Connections wait here meanwhile. Whatever goes wrong, silence, an
// answerer that goes away, an answer that cannot be read, is a refusal.
//
// It never decides what a policy has decided: who asks has found neither an
// entry that allows nor one that forbids, and the address that an allowed name
// leads to is checked by the policy still.
//
// A Broker belongs to one sandbox. Close ends every wait.
package ask

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Config says who is asked. The zero value of everything is a working default,
// with which nobody is.
type Config struct {
	Session string // the sandbox's id
	Name    string
	// Asking lets the user be asked, by who watches for questions.
	Asking  bool
	Timeout time.Duration // 1 min
	// Questions and Waiting bound what is open and what waits.
	Questions, Waiting int
	Authorizer         *Authorizer // asked before the user
	// Remember makes a rule of the user's policy. nil: answers hold for the run
	// at most.
	Remember func(allow bool, entry string) error

	negative time.Duration // 30 s
}

// Broker is where questions meet answers.
type Broker struct {
	cfg Config
	now func() time.Time

	mu       sync.Mutex
	table    *table
	watchers map[*Watcher]bool // true: it answers
	settled  []Settled         // the last ones
	timer    *time.Timer
	closed   bool
}

// maxSettled is how many outcomes are kept for who is slow to hear of them.
const maxSettled = 256

// Settled says what became of a request.
type Settled struct {
	ID      string  `json:"id"`
	Verdict Verdict `json:"verdict"`
	By      string  `json:"by"`
}

// New makes a Broker.
func New(cfg Config) *Broker {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&cfg.Questions, DefaultQuestions)
	set(&cfg.Waiting, DefaultWaiting)
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.negative <= 0 {
		cfg.negative = DefaultNegative
	}
	b := &Broker{cfg: cfg, now: time.Now, watchers: map[*Watcher]bool{}}
	b.table = newTable(limits{cfg.Questions, cfg.Waiting, cfg.Timeout, cfg.negative})
	b.timer = time.AfterFunc(time.Hour, b.expire)
	b.timer.Stop()
	return b
}

// Close refuses what waits, and everything after.
func (b *Broker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.timer.Stop()
	b.tell(b.table.dismiss(Outcome{By: "end", Reason: event.Unanswered, Text: "the sandbox has ended"}))
	for w := range b.watchers {
		w.wake()
	}
}

// Ask decides a question, waiting for somebody's answer where it must. The end
// of ctx says that nobody wants the answer any more.
func (b *Broker) Ask(ctx context.Context, q Question) policy.Decision {
	if d, ok := b.earlier(q); ok {
		return d
	}
	if b.cfg.Authorizer != nil {
		o, passed := b.cfg.Authorizer.decide(ctx, b.request(q, newID(), b.now().Add(b.cfg.Authorizer.Timeout)), q.Req)
		if !passed {
			return decision(q, o)
		}
	}
	return b.askUser(ctx, q)
}

func (b *Broker) earlier(q Question) (policy.Decision, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.table.remembered(q.Req, b.now())
	return decision(q, o), ok
}

// askUser holds until the question is settled.
func (b *Broker) askUser(ctx context.Context, q Question) policy.Decision {
	b.mu.Lock()
	if o, ok := b.table.remembered(q.Req, b.now()); ok { // meanwhile
		b.mu.Unlock()
		return decision(q, o)
	}
	if !b.cfg.Asking || b.closed || !b.somebody() {
		b.mu.Unlock()
		d := q.Default
		if b.cfg.Asking {
			d.Text = joined(d.Text, "there is nobody to ask")
		}
		return d
	}
	x, err := b.table.join(q, newID(), b.now())
	if err != nil {
		b.mu.Unlock()
		return decision(q, Outcome{By: "limit", Reason: event.LimitExceeded, Text: err.Error()})
	}
	b.schedule()
	b.wake()
	b.mu.Unlock()

	select {
	case <-x.done:
	case <-ctx.Done():
		b.mu.Lock()
		if b.table.leave(x) {
			b.tell([]*question{x})
		} else {
			b.wake() // one less is pending
		}
		b.mu.Unlock()
		select {
		case <-x.done:
		default:
			return decision(q, Outcome{By: "withdrawn", Reason: event.Unanswered, Text: "it went away before there was an answer"})
		}
	}
	return decision(q, x.outcome)
}

// decision is an outcome as the proxy takes it.
func decision(q Question, o Outcome) policy.Decision {
	d := policy.Decision{Verdict: event.AskDenied, Reason: o.Reason, Rule: o.rule(), Text: o.Text, ID: o.ID}
	if o.Allowed {
		d.Verdict = event.AskAllowed
		return d
	}
	d.Fix = q.Default.Fix
	return d
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// request is a question as it is asked. It is called with the lock, or before
// anybody waits.
func (b *Broker) request(q Question, id string, deadline time.Time) Request {
	return Request{
		V: Version, ID: id, Session: b.cfg.Session, Name: event.Text(b.cfg.Name), Kind: q.Kind,
		Host: q.Req.Host.String(), Shown: Show(q.Req.Host.String()), Owner: policy.Owner(q.Req.Host),
		Port: q.Req.Port, Via: q.Via, SNI: q.SNI, Proc: procOf(q.Process), Pending: 1,
		Suggest: policy.Entries(q.Req), Deadline: deadline.UTC(),
	}
}

// Pending gives what is open, oldest first.
func (b *Broker) Pending() []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Request, 0, len(b.table.order))
	for _, x := range b.table.order {
		r := b.request(x.first, x.id, x.deadline)
		r.Pending = x.waiters
		out = append(out, r)
	}
	return out
}

// Outcome gives what became of a request, if that is still known.
func (b *Broker) Outcome(id string) (Settled, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.settled) - 1; i >= 0; i-- {
		if b.settled[i].ID == id {
			return b.settled[i], true
		}
	}
	return Settled{ID: id}, false
}

// Reply answers. The first answer counts; one that is wrong in itself denies,
// and the error says so.
func (b *Broker) Reply(r Reply, by string) error {
	b.mu.Lock()
	x := b.table.find(r.ID)
	settled, err := b.table.answer(r, by, b.now())
	b.tell(settled)
	b.mu.Unlock()
	if err != nil || r.Scope != Always {
		return err
	}
	rule, _ := ruleOf(r, x.first.Req) // checked by answer
	return b.remember(r.Verdict == Allow, rule)
}

// Grant allows or denies before there is a question.
func (b *Broker) Grant(r Reply, by string) error {
	if !b.cfg.Asking {
		return errors.New("asking is off in this sandbox")
	}
	if r.Match == "" || r.Scope == Once {
		return errors.New("a grant needs a match and a scope of session, ttl or always")
	}
	rule, err := ruleOf(r, policy.NetRequest{})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.tell(b.table.grant(rule, r, by, b.now()))
	b.mu.Unlock()
	if r.Scope != Always {
		return nil
	}
	return b.remember(r.Verdict == Allow, rule)
}

// CanRemember says whether an answer can become a rule of the policy.
func (b *Broker) CanRemember() bool { return b.cfg.Remember != nil }

func (b *Broker) remember(allow bool, rule policy.HostRule) error {
	if b.cfg.Remember == nil {
		return errors.New("it holds until the sandbox ends, and is not remembered: the policy is not the user's own file")
	}
	if err := b.cfg.Remember(allow, rule.String()); err != nil {
		return fmt.Errorf("it holds until the sandbox ends, and is not remembered: %w", err)
	}
	return nil
}

// Remembered is an answer that holds for more than what waited.
type Remembered struct {
	Match   string     `json:"match"`
	Verdict Verdict    `json:"verdict"`
	By      string     `json:"by"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until,omitempty"` // nil: the sandbox's end
}

// Remembered lists the answers that hold.
func (b *Broker) Remembered() []Remembered {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Remembered{}
	now := b.now()
	for _, g := range b.table.grants {
		r := Remembered{Match: g.rule.String(), By: g.by, Since: g.since.UTC()}
		if g.allow {
			r.Verdict = Allow
		}
		if until := g.until.UTC(); !g.until.IsZero() {
			if !now.Before(until) {
				continue
			}
			r.Until = &until
		}
		out = append(out, r)
	}
	return out
}

// Forget drops the answers about exactly this entry, and says how many.
func (b *Broker) Forget(match string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.forget(match)
}

// expire is the timer's.
func (b *Broker) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(b.table.expire(b.now()))
	b.schedule()
}

func (b *Broker) schedule() {
	if len(b.table.order) > 0 {
		b.timer.Reset(max(b.table.order[0].deadline.Sub(b.now()), time.Millisecond))
	}
}

// tell notes outcomes, and wakes who watches.
func (b *Broker) tell(settled []*question) {
	for _, x := range settled {
		s := Settled{ID: x.id, By: x.outcome.By}
		if x.outcome.Allowed {
			s.Verdict = Allow
		}
		b.settled = append(b.settled, s)
	}
	if n := len(b.settled) - maxSettled; n > 0 {
		b.settled = append(b.settled[:0], b.settled[n:]...)
	}
	b.wake()
}

func (b *Broker) wake() {
	for w := range b.watchers {
		w.wake()
	}
}

// newID names a request: who has not seen it cannot answer it.
func newID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}
