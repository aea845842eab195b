package ask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Question is a wish that nothing forbids and nothing allows.
type Question struct {
	Req     policy.NetRequest
	Kind    string // KindConnect or KindHTTP
	Via     string // transparent, connect, socks5, http
	SNI     string
	Process *event.Process
	// Default is the policy's own answer, which holds where nobody is asked.
	Default policy.Decision
}

// Outcome is what became of a question.
type Outcome struct {
	Allowed bool
	By      string // who decided: tty, socket, desktop, authorizer, timeout, …
	Reason  event.Reason
	Text    string // for people
	ID      string // of an authorizer's decision
}

// rule names what decided in an event.
func (o Outcome) rule() policy.Rule { return policy.Rule{Name: "ask-" + o.By} }

// Bounds of what one sandbox can make its user's side hold.
const (
	DefaultQuestions = 64   // open at once
	DefaultWaiting   = 4096 // connections that wait for an answer
	DefaultNegative  = 30 * time.Second
	maxGrants        = 1024
	maxRefusals      = 4096
)

// limits bound a table.
type limits struct {
	questions, waiting int
	timeout, negative  time.Duration
}

// table is the state of asking. It has no clock, no lock and no goroutine: who
// uses it brings them.
type table struct {
	limits
	open     map[policy.NetRequest]*question
	order    []*question // oldest first: all wait equally long
	waiting  int
	grants   []grant
	refusals map[policy.NetRequest]refusal
}

// question is one host and port that somebody decides, for all that wait for it.
type question struct {
	id       string
	first    Question
	waiters  int
	deadline time.Time
	done     chan struct{} // closed: outcome is set
	outcome  Outcome
}

// grant is an answer that holds for more than what waits: also a refusal.
type grant struct {
	rule  policy.HostRule
	allow bool
	until time.Time // zero: the sandbox's end
	by    string
	text  string
	since time.Time
}

type refusal struct {
	until   time.Time
	outcome Outcome
}

func newTable(l limits) *table {
	return &table{limits: l, open: map[policy.NetRequest]*question{}, refusals: map[policy.NetRequest]refusal{}}
}

// remembered gives an earlier answer that still holds. The last one given wins.
func (t *table) remembered(req policy.NetRequest, now time.Time) (Outcome, bool) {
	for i := len(t.grants) - 1; i >= 0; i-- {
		g := t.grants[i]
		if (g.until.IsZero() || now.Before(g.until)) && g.rule.Matches(req) {
			return Outcome{Allowed: g.allow, By: g.by, Reason: event.UserAnswer, Text: g.text}, true
		}
	}
	if r, ok := t.refusals[req]; ok && now.Before(r.until) {
		return r.outcome, true
	}
	return Outcome{}, false
}

var (
	errQueueFull = errors.New("more questions are open than can be asked")
	errTooMany   = errors.New("more connections wait for an answer than are held")
)

// join adds a waiter to the question about a host and port, new or not.
func (t *table) join(q Question, id string, now time.Time) (*question, error) {
	if t.waiting >= t.limits.waiting {
		return nil, errTooMany
	}
	x := t.open[q.Req]
	if x == nil {
		if len(t.order) >= t.questions {
			return nil, errQueueFull
		}
		x = &question{id: id, first: q, deadline: now.Add(t.timeout), done: make(chan struct{})}
		t.open[q.Req] = x
		t.order = append(t.order, x)
	}
	x.waiters++
	t.waiting++
	return x, nil
}

// leave takes a waiter away that has gone; a question that nobody waits for is
// withdrawn.
func (t *table) leave(x *question) (withdrawn bool) {
	if t.open[x.first.Req] != x {
		return false // settled
	}
	x.waiters--
	t.waiting--
	if x.waiters > 0 {
		return false
	}
	t.close(x, Outcome{By: "withdrawn", Reason: event.Unanswered})
	return true
}

// close ends a question.
func (t *table) close(x *question, o Outcome) {
	delete(t.open, x.first.Req)
	t.order = slices.DeleteFunc(t.order, func(y *question) bool { return y == x })
	t.waiting -= x.waiters
	x.outcome = o
	close(x.done)
}

// ErrGone is for an answer to what is not asked (any more).
var ErrGone = errors.New("no such question is open: it was answered or withdrawn, or its time is over")

func (t *table) find(id string) *question {
	for _, x := range t.order {
		if x.id == id {
			return x
		}
	}
	return nil
}

// answer settles a question, and the others that the answer speaks of. An
// answer that cannot be meant denies, and says so.
func (t *table) answer(r Reply, by string, now time.Time) ([]*question, error) {
	x := t.find(r.ID)
	if x == nil {
		return nil, ErrGone
	}
	rule, err := ruleOf(r, x.first.Req)
	if err != nil {
		r = Reply{ID: r.ID}
	}
	o := Outcome{Allowed: r.Verdict == Allow, By: by, Reason: event.UserAnswer, Text: string(r.Reason)}
	settled := []*question{x}
	t.close(x, o)
	if r.Scope != Once {
		settled = append(settled, t.grant(rule, r, by, now)...)
	} else if !o.Allowed {
		t.refuse(x.first.Req, o, now)
	}
	return settled, err
}

// ruleOf gives what an answer speaks of.
func ruleOf(r Reply, req policy.NetRequest) (policy.HostRule, error) {
	match := r.Match
	if match == "" {
		match = policy.Entries(req)[0]
	}
	rule, err := policy.ParseHostRule(match, r.Verdict == Allow)
	switch {
	case r.Verdict != Allow && r.Verdict != Deny:
		return rule, fmt.Errorf("verdict %s is not a user's", r.Verdict)
	case err != nil:
		return rule, err
	case req.Port != 0 && !rule.Matches(req):
		return rule, fmt.Errorf("%s is not about %s port %d", rule, req.Host, req.Port)
	case r.Scope == Once && r.Match != "" && rule.String() != policy.Entries(req)[0]:
		return rule, fmt.Errorf("scope once is for what was asked about, not for %s", rule)
	}
	return rule, nil
}

// grant remembers an answer and settles what it speaks of.
func (t *table) grant(rule policy.HostRule, r Reply, by string, now time.Time) (settled []*question) {
	g := grant{rule: rule, allow: r.Verdict == Allow, by: by, text: string(r.Reason), since: now}
	if r.Scope == TTL {
		g.until = now.Add(time.Duration(r.TTL) * time.Second)
	}
	t.grants = slices.DeleteFunc(t.grants, func(old grant) bool {
		return old.rule.String() == rule.String() || !old.until.IsZero() && !now.Before(old.until)
	})
	if len(t.grants) >= maxGrants {
		t.grants = t.grants[1:] // it is asked again
	}
	t.grants = append(t.grants, g)
	for req := range t.refusals {
		if rule.Matches(req) {
			delete(t.refusals, req)
		}
	}
	for _, x := range slices.Clone(t.order) {
		if rule.Matches(x.first.Req) {
			t.close(x, Outcome{Allowed: g.allow, By: by, Reason: event.UserAnswer, Text: g.text})
			settled = append(settled, x)
		}
	}
	return settled
}

// refuse keeps a refusal for a while: who is refused tries again at once.
func (t *table) refuse(req policy.NetRequest, o Outcome, now time.Time) {
	if len(t.refusals) >= maxRefusals {
		for k := range t.refusals { // whichever: it is asked again
			delete(t.refusals, k)
			break
		}
	}
	t.refusals[req] = refusal{now.Add(t.negative), o}
}

// expire denies what nobody has answered in time.
func (t *table) expire(now time.Time) (settled []*question) {
	for len(t.order) > 0 && !now.Before(t.order[0].deadline) {
		x := t.order[0]
		o := Outcome{By: "timeout", Reason: event.Unanswered, Text: fmt.Sprintf("nobody answered within %s", t.timeout)}
		t.close(x, o)
		t.refuse(x.first.Req, o, now)
		settled = append(settled, x)
	}
	return settled
}

// dismiss denies everything that is open, since there is nobody left to answer.
func (t *table) dismiss(why Outcome) (settled []*question) {
	for len(t.order) > 0 {
		x := t.order[0]
		t.close(x, why)
		settled = append(settled, x)
	}
	return settled
}

// forget drops the answers about exactly this entry.
func (t *table) forget(match string) (n int) {
	before := len(t.grants)
	t.grants = slices.DeleteFunc(t.grants, func(g grant) bool { return strings.EqualFold(g.rule.String(), match) })
	return before - len(t.grants)
}
