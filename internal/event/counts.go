package event

import (
	"fmt"
	"maps"
	"strings"
)

// Loss says where attempts went of which there is no record.
type Loss uint8

const (
	LossOther    Loss = iota
	LossLog           // the log could not be written to
	LossFull          // the user's log has reached its limit
	LossRate          // the user's events were too many
	LossKernel        // the kernel had to drop the record
	LossPackets       // the queue of refused packets was full
	LossReported      // the sandbox's supervisor could make no record
	LossSystem        // the system's own log was behind (macOS)
)

var lossNames = []string{"other", "audit-log", "full", "rate", "kernel", "nflog", "reported", "seatbelt"}

// Losses lists the name of every place in order of value.
func Losses() []string { return append([]string(nil), lossNames...) }

func (l Loss) String() string                { return name(lossNames, l) }
func (l Loss) MarshalText() ([]byte, error)  { return marshal("loss", lossNames, l) }
func (l *Loss) UnmarshalText(b []byte) error { return unmarshal("loss", lossNames, l, b) }

// LossOf gives the place of a name.
func LossOf(where string) (l Loss) {
	_ = l.UnmarshalText([]byte(where)) // a place without a name is another
	return l
}

// Kind is what denials are told apart by.
type Kind struct {
	Layer     Layer
	Operation Operation
	Reason    Reason
}

// Decision is what attempts are told apart by.
type Decision struct {
	Verdict   Verdict
	Operation Operation
}

// Counts is what the lines of logs add up to. Whoever adds the same lines has
// the same counts: no number comes from anywhere else.
type Counts struct {
	Events    uint64               `json:"events"`    // lines
	Decisions map[Decision]uint64  `json:"decisions"` // attempts, all of them
	Denied    map[Kind]uint64      `json:"denied"`    // by the policy
	System    map[Operation]uint64 `json:"system"`    // by the host's own permissions
	Lost      map[Loss]uint64      `json:"lost"`      // of which there is no record
	// Metadata counts, of the denied attempts, those that aimed at a cloud's
	// metadata service.
	Metadata uint64 `json:"metadata"`
}

// maxKinds bounds the kinds of denials that are told apart: a user can report
// combinations that no layer makes. What comes after is counted by its layer.
const maxKinds = 200

// Add counts one line.
func (c *Counts) Add(e *Event) {
	if c.Decisions == nil {
		*c = c.Clone()
	}
	n := max(e.Count, 1)
	layer, op := known(e.Layer, layerNames), known(e.Operation, operationNames)
	c.Events++
	c.Decisions[Decision{known(e.Verdict, verdictNames), op}] += n
	if e.LostSinceLast > 0 {
		c.Lost[lossIn(e)] += e.LostSinceLast
	}
	if !e.Verdict.Denied() {
		return
	}
	if aimsAtMetadata(e.Object) {
		c.Metadata += n
	}
	if e.Reason == System {
		c.System[op] += n
		return
	}
	k := Kind{layer, op, known(e.Reason, reasonNames)}
	if _, seen := c.Denied[k]; !seen && len(c.Denied) >= maxKinds {
		k = Kind{Layer: layer}
	}
	c.Denied[k] += n
}

// known takes a value without a name for the one that knows nothing.
func known[T ~uint8](v T, names []string) T {
	if int(v) >= len(names) {
		return 0
	}
	return v
}

// LossRule is the rule of a record that carries a loss.
func LossRule(l Loss) string { return "builtin:" + l.String() }

// lossIn says where what an event carries was lost. One that is not the record
// of a loss carries what could not be written before it.
func lossIn(e *Event) Loss {
	if e.Verdict == Audit && e.Reason == System {
		if l := LossOf(strings.TrimPrefix(e.Rule, "builtin:")); l != LossOther {
			return l
		}
	}
	return LossLog
}

// aimsAtMetadata knows the addresses at which clouds hand out credentials, and
// the name of the one that has a name.
func aimsAtMetadata(o Object) bool {
	switch o.Addr {
	case "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254":
		return true
	}
	switch strings.TrimSuffix(string(o.Host), ".") {
	case "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "metadata.google.internal", "metadata.goog":
		return true
	}
	return false
}

// Merge adds other counts.
func (c *Counts) Merge(o Counts) {
	if c.Decisions == nil {
		*c = c.Clone()
	}
	c.Events += o.Events
	c.Metadata += o.Metadata
	addAll(c.Decisions, o.Decisions)
	addAll(c.Denied, o.Denied)
	addAll(c.System, o.System)
	addAll(c.Lost, o.Lost)
}

func addAll[K comparable](to, from map[K]uint64) {
	for k, n := range from {
		to[k] += n
	}
}

// Clone gives a copy that can be added to.
func (c Counts) Clone() Counts {
	c.Decisions, c.Denied, c.System, c.Lost = cloned(c.Decisions), cloned(c.Denied), cloned(c.System), cloned(c.Lost)
	return c
}

func cloned[K comparable](m map[K]uint64) map[K]uint64 {
	if m == nil {
		return map[K]uint64{}
	}
	return maps.Clone(m)
}

// MarshalText makes a Kind a key in JSON.
func (k Kind) MarshalText() ([]byte, error) {
	return joined(k.Layer, k.Operation, k.Reason)
}

// UnmarshalText reads what MarshalText wrote.
func (k *Kind) UnmarshalText(b []byte) error {
	return split(string(b), &k.Layer, &k.Operation, &k.Reason)
}

// MarshalText makes a Decision a key in JSON.
func (d Decision) MarshalText() ([]byte, error) { return joined(d.Verdict, d.Operation) }

// UnmarshalText reads what MarshalText wrote.
func (d *Decision) UnmarshalText(b []byte) error { return split(string(b), &d.Verdict, &d.Operation) }

func joined(parts ...interface{ MarshalText() ([]byte, error) }) ([]byte, error) {
	var out []byte
	for i, p := range parts {
		b, err := p.MarshalText()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, b...)
	}
	return out, nil
}

func split(s string, parts ...interface{ UnmarshalText([]byte) error }) error {
	words := strings.Split(s, " ")
	if len(words) != len(parts) {
		return fmt.Errorf("decode key: %q has not %d words", s, len(parts))
	}
	for i, p := range parts {
		if err := p.UnmarshalText([]byte(words[i])); err != nil {
			return err
		}
	}
	return nil
}
