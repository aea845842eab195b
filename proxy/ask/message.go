package ask

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/event"
)

// Version is that of the messages.
const Version = 1

// Kinds of wishes.
const (
	KindConnect = "connect"
	KindHTTP    = "http"
)

// Request is a wish that somebody decides; see schema.json.
type Request struct {
	V       int        `json:"v"`
	ID      string     `json:"id"`
	Session string     `json:"session"`
	Name    event.Text `json:"name,omitempty"` // of the sandbox
	Kind    string     `json:"kind"`
	Host    string     `json:"host"`
	// Shown is the host as people may read it, without what deceives them.
	Shown    string    `json:"shown"`
	Owner    string    `json:"etld1,omitempty"`
	Port     uint16    `json:"port"`
	Via      string    `json:"via"`
	SNI      string    `json:"sni,omitempty"`
	Proc     *Proc     `json:"proc,omitempty"`
	Pending  int       `json:"pending"`
	Suggest  []string  `json:"suggest"`
	Deadline time.Time `json:"deadline"`
}

// Proc is who wishes, as the host sees it.
type Proc struct {
	PID  int          `json:"pid"`
	Exe  event.Text   `json:"exe,omitempty"`
	Argv []event.Text `json:"argv,omitempty"`
}

// maxArgv bounds what is shown of a command line.
const maxArgv = 1024

func procOf(p *event.Process) *Proc {
	if p == nil {
		return nil
	}
	out := &Proc{PID: p.PID, Exe: clip(p.Exe, maxArgv)}
	left := maxArgv
	for _, a := range p.Argv {
		if left -= len(a); left < 0 {
			out.Argv = append(out.Argv, "…")
			break
		}
		out.Argv = append(out.Argv, a)
	}
	return out
}

func clip(t event.Text, most int) event.Text {
	if len(t) > most {
		return t[:most] + "…"
	}
	return t
}

// Verdict is an answer. The zero value denies.
type Verdict uint8

const (
	Deny Verdict = iota
	Allow
	Pass // of an authorizer: let the user decide
)

var verdicts = []string{"deny", "allow", "ask"}

func (v Verdict) String() string { return word(verdicts, int(v)) }

// Scope is how long an answer holds. The zero value is the shortest.
type Scope uint8

const (
	Once    Scope = iota // for what waits now
	Session              // until the sandbox ends
	TTL                  // for a time
	Always               // it becomes a rule of the user's policy
)

var scopes = []string{"once", "session", "ttl", "always"}

func (s Scope) String() string { return word(scopes, int(s)) }

func word(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return fmt.Sprintf("invalid(%d)", i)
}

// MarshalText and UnmarshalText are for messages.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
func (s Scope) MarshalText() ([]byte, error)   { return []byte(s.String()), nil }

func (v *Verdict) UnmarshalText(b []byte) error {
	i, err := index("verdict", verdicts, b)
	*v = Verdict(i)
	return err
}

func (s *Scope) UnmarshalText(b []byte) error {
	i, err := index("scope", scopes, b)
	*s = Scope(i)
	return err
}

func index(what string, words []string, b []byte) (int, error) {
	for i, w := range words {
		if w == string(b) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s %q: one of %q", what, b, words)
}

// Reply is an answer; see schema.json. The zero value denies once.
type Reply struct {
	ID      string     `json:"id"`
	Verdict Verdict    `json:"verdict"`
	Scope   Scope      `json:"scope,omitempty"`
	Match   string     `json:"match,omitempty"` // default: the host and port that was asked about
	TTL     int        `json:"ttl_s,omitempty"`
	Reason  event.Text `json:"reason,omitempty"`
	// DecisionID is what an authorizer calls its decision.
	DecisionID event.Text `json:"decision_id,omitempty"`
}

// Bounds of a reply.
const (
	MaxReply  = 8 << 10
	MaxTTL    = 30 * 24 * time.Hour
	maxReason = 512
	maxMatch  = 300
)

// ParseReply reads a reply strictly: what two programs could read differently is
// none. Where the reply is wrong and says which request it is of, that comes
// with the error, and denies.
func ParseReply(data []byte) (Reply, error) {
	fields, err := object(data)
	if err != nil {
		return Reply{}, err
	}
	var r Reply
	into := map[string]any{"id": &r.ID, "verdict": &r.Verdict, "scope": &r.Scope, "match": &r.Match,
		"ttl_s": &r.TTL, "reason": &r.Reason, "decision_id": &r.DecisionID}
	for name, raw := range fields {
		to, known := into[name]
		if !known {
			err = errors.Join(err, fmt.Errorf("unknown field %q", name))
		} else if string(raw) == "null" {
			err = errors.Join(err, fmt.Errorf("%s is null", name))
		} else if e := json.Unmarshal(raw, to); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
		}
	}
	if _, ok := fields["verdict"]; !ok {
		err = errors.Join(err, errors.New("no verdict"))
	}
	if err == nil {
		err = r.check(fields["ttl_s"] != nil)
	}
	if err != nil {
		return Reply{ID: r.ID}, fmt.Errorf("read reply: %w", err)
	}
	return r, nil
}

func (r *Reply) check(hasTTL bool) error {
	switch {
	case len(r.Reason) > maxReason, len(r.DecisionID) > maxReason, len(r.Match) > maxMatch, len(r.ID) > maxMatch:
		return errors.New("a field is too long")
	case hasTTL && (r.TTL < 1 || r.TTL > int(MaxTTL/time.Second)):
		return fmt.Errorf("ttl_s must be from 1 to %d", int(MaxTTL/time.Second))
	case r.Scope == TTL && !hasTTL:
		return errors.New("scope ttl wants ttl_s")
	}
	return nil
}

// object reads one JSON object whose keys are all different.
func object(data []byte) (map[string]json.RawMessage, error) {
	if len(data) > MaxReply {
		return nil, fmt.Errorf("more than %d bytes", MaxReply)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("%q is said twice", key)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		fields[key] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the object has no end")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return fields, nil
}

// Encode gives a message as one line of ASCII: nothing in it can break the
// line, or do anything to a terminal that it is shown on.
func Encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	out := make([]byte, 0, len(b)+1)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == 0x7f, r >= 0x80 && r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		case r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return append(out, '\n'), nil
}
