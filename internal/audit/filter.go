package audit

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Filter chooses events; its zero value lets all of them through. Conditions of
// one kind are joined by "or", kinds by "and".
type Filter struct {
	// Since and Until are inclusive and compared with the span of attempts an
	// event stands for.
	Since, Until time.Time
	Verdicts     []event.Verdict
	Operations   []event.Operation
	Layers       []event.Layer
	Sandbox      string // the beginning of an id, or a whole name
	Host         string // glob over the host, and over the address
	Path         string // glob over the path; * and ? match slashes too, as in find(1)
	PID          int
	// Notable leaves out what needs no attention: reason system and, unless
	// Verdicts asks for it, what was allowed. An event that tells of a loss
	// stays.
	Notable bool
	// Limit keeps the last events only; below zero none of what is there
	// already, which makes sense for Follow.
	Limit int
}

func (f *Filter) match(e *event.Event) bool {
	return f.inTime(e) && f.matchKind(e) && f.matchObject(&e.Object) &&
		(f.Sandbox == "" || strings.HasPrefix(e.Sandbox.ID, f.Sandbox) || string(e.Sandbox.Name) == f.Sandbox) &&
		(f.PID == 0 || e.Process != nil && e.Process.PID == f.PID)
}

func (f *Filter) inTime(e *event.Event) bool {
	first, last := e.Time, e.Time
	if !e.First.IsZero() && e.First.Before(first) {
		first = e.First
	}
	if e.Last.After(last) {
		last = e.Last
	}
	return (f.Since.IsZero() || !last.Before(f.Since)) && (f.Until.IsZero() || !first.After(f.Until))
}

func (f *Filter) matchKind(e *event.Event) bool {
	if len(f.Verdicts) > 0 && !slices.Contains(f.Verdicts, e.Verdict) ||
		len(f.Operations) > 0 && !slices.Contains(f.Operations, e.Operation) ||
		len(f.Layers) > 0 && !slices.Contains(f.Layers, e.Layer) {
		return false
	}
	if !f.Notable || e.LostSinceLast > 0 {
		return true
	}
	return e.Reason != event.System && (len(f.Verdicts) > 0 || e.Verdict != event.Allow)
}

func (f *Filter) matchObject(o *event.Object) bool {
	if f.Path != "" && (o.Path == "" || !glob(f.Path, string(o.Path))) {
		return false
	}
	return f.Host == "" || o.Host != "" && glob(strings.ToLower(f.Host), string(o.Host)) ||
		o.Addr != "" && glob(strings.ToLower(f.Host), o.Addr)
}

// glob matches bytes: * is any run of them, ? any one. It goes back to the last
// star only, so it takes no more than len(pattern)·len(s) steps.
func glob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
