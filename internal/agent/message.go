package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/loader"
)

// A message is JSON, cut into packets: each begins with one byte that says
// whether more follow.
const (
	packetLast = 0
	packetMore = 1

	packetData = 4 << 10
	messageMax = 4 << 20
)

// request is what a client says; exactly one field beside ID and Nonce is set.
type request struct {
	ID uint32 `json:"id"` // comes back with the answer
	// Nonce, in the first request, is the one of the greeting: the sender was
	// alive when the agent took hold of it.
	Nonce  string    `json:"nonce,omitempty"`
	Status *struct{} `json:"status,omitempty"`
	// Prepare is Status of a caller that is about to register.
	Prepare  *struct{}     `json:"prepare,omitempty"`
	Register *Registration `json:"register,omitempty"`
	// Attach takes a sandbox over that the same process registered with an agent
	// that is no more.
	Attach    *attach            `json:"attach,omitempty"`
	Start     *struct{}          `json:"start,omitempty"`
	ProcessOf *loader.Connection `json:"process_of,omitempty"`
	Process   int                `json:"process,omitempty"` // who is this?
	Report    *report            `json:"report,omitempty"`
	// Traffic is what the sandbox's proxy has counted since the last one, but for
	// Open; it is not answered.
	Traffic *event.Traffic `json:"traffic,omitempty"`
	Update  *Update        `json:"update,omitempty"`
	End     *struct{}      `json:"end,omitempty"`
	Logs    *logs          `json:"logs,omitempty"`
}

type attach struct {
	Sandbox string `json:"sandbox"`
}

// report is an event that the user's own process saw. Numbers go up by one from
// 1: one that comes again, after a new connection, is known by its number.
type report struct {
	Number uint64      `json:"number"`
	Event  event.Event `json:"event"`
	// Lost says that this is no attempt but so many of which there is no record.
	Lost uint64 `json:"lost,omitempty"`
}

// logs asks for the names of the caller's own logs behind After; with Name, for
// that one, open for reading.
type logs struct {
	After string `json:"after,omitempty"`
	Name  string `json:"name,omitempty"`
}

// message is what the agent says.
type message struct {
	ID        uint32      `json:"id,omitempty"` // of the request that this answers
	Refusal   *Refusal    `json:"refusal,omitempty"`
	Greeting  *greeting   `json:"greeting,omitempty"`
	Status    *Status     `json:"status,omitempty"`
	Sandbox   *registered `json:"sandbox,omitempty"`
	Processes *processes  `json:"processes,omitempty"`
	Ended     *Ended      `json:"ended,omitempty"`
	// Logs are names; More: there are others.
	Logs []string `json:"logs,omitempty"`
	More bool     `json:"more,omitempty"`
	// Written is the number up to which reports are in the log.
	Written uint64 `json:"written,omitempty"`

	Event *event.Event `json:"event,omitempty"` // the kernel saw
	Call  string       `json:"call,omitempty"`  // what failed, with Event
}

type greeting struct {
	Version int    `json:"version"`
	Nonce   string `json:"nonce"`
}

type registered struct {
	ID           string     `json:"id"`
	PolicySHA256 string     `json:"policy_sha256"`
	Tier         event.Tier `json:"tier"`
}

type processes struct {
	Process   *event.Process  `json:"process,omitempty"`
	Ancestors []event.Process `json:"ancestors,omitempty"`
}

// decodeRequest reads a request, strictly.
func decodeRequest(b []byte) (*request, error) {
	r := &request{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode request: something follows it")
	}
	n := 0
	for _, set := range []bool{r.Status != nil, r.Prepare != nil, r.Register != nil, r.Attach != nil, r.Start != nil,
		r.ProcessOf != nil, r.Process != 0, r.Report != nil, r.Traffic != nil, r.Update != nil, r.End != nil, r.Logs != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return nil, fmt.Errorf("decode request: it asks for %d things", n)
	}
	return r, nil
}

// bound takes times and numbers that cannot be out of a report.
func bound(e *event.Event, begun, now time.Time) {
	e.Time = now
	clamp := func(t time.Time) time.Time {
		switch {
		case t.IsZero() || t.After(now):
			return now
		case t.Before(begun):
			return begun
		}
		return t
	}
	e.First, e.Last = clamp(e.First), clamp(e.Last)
	if e.Last.Before(e.First) {
		e.Last = e.First
	}
	e.Count = min(max(e.Count, 1), 1<<32)
	e.LostSinceLast = 0
}

// joiner puts a message together from its packets.
type joiner struct{ buf []byte }

var errTooLarge = fmt.Errorf("message is larger than %d bytes", messageMax)

// add takes a packet; it returns the message that this one completes, or nil.
// What it returns is valid until the next call.
func (j *joiner) add(packet []byte) ([]byte, error) {
	if len(packet) < 2 || len(packet) > 1+packetData || packet[0] > packetMore {
		j.buf = nil
		return nil, errors.New("not a packet")
	}
	if packet[0] == packetLast && len(j.buf) == 0 {
		return packet[1:], nil
	}
	if len(j.buf)+len(packet)-1 > messageMax {
		j.buf = nil
		return nil, errTooLarge
	}
	j.buf = append(j.buf, packet[1:]...)
	if packet[0] == packetMore {
		return nil, nil
	}
	whole := j.buf
	j.buf = nil
	return whole, nil
}

// begun reports whether a part of a message is here.
func (j *joiner) begun() int { return len(j.buf) }

// cut makes packets of a message.
func cut(b []byte) [][]byte {
	var out [][]byte
	for {
		n := min(len(b), packetData)
		p := make([]byte, 1, 1+n)
		if n < len(b) {
			p[0] = packetMore
		}
		out = append(out, append(p, b[:n]...))
		if b = b[n:]; len(b) == 0 {
			return out
		}
	}
}
