package seatbelt

import (
	"math"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// RuleSeatbelt is the rule of what the profile refuses for want of one.
const RuleSeatbelt = "seatbelt"

// unknownUID says that a report does not name the user: (uid_t)-1 is nobody's.
const unknownUID = math.MaxUint32

// genericReasons is why a kind of attempt is refused where no policy is at
// hand.
var genericReasons = map[event.Operation]event.Reason{
	event.FileRead:    event.PathHidden,
	event.FileExec:    event.PathHidden,
	event.FileWrite:   event.PathReadOnly,
	event.FileCreate:  event.PathReadOnly,
	event.FileDelete:  event.PathReadOnly,
	event.FileMeta:    event.PathReadOnly,
	event.FileLink:    event.PathReadOnly,
	event.NetConnect:  event.NotAllowed,
	event.NetBind:     event.NotAllowed,
	event.NetSocket:   event.SocketRefused,
	event.UnixConnect: event.SocketRefused,
	event.SysRefused:  event.SyscallRefused,
}

// Event gives the violation in a record as an event without a policy: rule and
// reason are those of any profile.
func (v Violation) Event(r Record) event.Event {
	op, object := v.target()
	e := event.Event{
		Schema: event.SchemaVersion, Time: r.Time, Verdict: event.Deny, Layer: event.LayerSeatbelt,
		Sandbox:   event.Sandbox{Tier: event.TierSeatbelt},
		Operation: op, Object: object, Errno: errnoName(v.Errno),
		Reason: genericReasons[op], Rule: "builtin:" + RuleSeatbelt,
		Process: &event.Process{PID: v.PID, Comm: event.Text(v.Name), UID: reportedUID(r)},
		Count:   v.Count, First: r.Time, Last: r.Time,
	}
	e.Detail = event.Text(strings.Join(v.notes(r), "; "))
	return e
}

// notes say what the event's other fields cannot.
func (v Violation) notes(r Record) []string {
	notes := []string{v.Op + " refused, reported by " + r.Reporter.String()}
	if v.Message != "" && r.Reporter == Kernel {
		notes = append(notes, "message "+v.Message)
	}
	if strings.HasPrefix(v.Target, "remote:*:") {
		notes = append(notes, "the log does not name the address")
	}
	if v.Cut {
		notes = append(notes, "the log cut the record")
	}
	return notes
}

// reportedUID reads the "User ID:" line of sandboxd's report.
func reportedUID(r Record) uint32 {
	if r.Reporter != Sandboxd {
		return unknownUID
	}
	for line := range strings.Lines(r.Text) {
		if id, ok := strings.CutPrefix(line, "User ID:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(id), 10, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return unknownUID
}

// Decider is the policy as an explanation of what the kernel refused.
type Decider interface {
	DecideFile(event.Operation, string) policy.Decision
}

// Explain replaces the generic reason and rule of an event by those of the
// policy the profile was made from. Where the policy would have allowed it,
// the refusal came from what keeps protected names in place.
func Explain(e *event.Event, d Decider) {
	switch e.Operation {
	case event.FileRead, event.FileExec, event.FileWrite, event.FileCreate, event.FileDelete, event.FileMeta, event.FileLink:
	default:
		return
	}
	got := d.DecideFile(e.Operation, string(e.Object.Path))
	if short, ok := shortSpelling(string(e.Object.Path)); ok && (got.Allowed() || got.Reason == event.PathReadOnly) {
		if other := d.DecideFile(e.Operation, short); !other.Allowed() {
			got = other
		}
	}
	switch {
	case got.Reason == event.RequestInvalid: // a path that is none
	case !got.Allowed():
		e.Reason, e.Rule = got.Reason, got.Rule.String()
	case got.Rule.Name == "private-directory": // which only Linux has
		e.Rule = "builtin:read-only"
	case e.Operation != event.FileRead && e.Operation != event.FileExec:
		e.Reason, e.Rule = event.PathProtected, "builtin:"+RuleMove
	}
}

// shortSpelling gives the name by which users know what the kernel calls
// /private/….
func shortSpelling(p string) (string, bool) {
	for _, dir := range []string{"/tmp", "/var", "/etc"} {
		if rest, ok := strings.CutPrefix(p, "/private"+dir); ok && (rest == "" || rest[0] == '/') {
			return dir + rest, true
		}
	}
	return "", false
}
