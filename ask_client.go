package sallyport

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/proxy/ask"
)

// Asker is a connection to a running sandbox whose questions can be answered.
type Asker struct {
	*ask.Client
	Running Running
}

// Remembered is an answer that holds for more than one connection.
type Remembered struct {
	ask.Remembered
	// Sandbox is where it holds; empty for a rule of the user's policy.
	Sandbox string `json:"sandbox,omitempty"`
	// Rule is where it stands, for a rule of the policy.
	Rule string `json:"rule,omitempty"`
}

// DialAsk connects to a running sandbox to answer its questions, or only to hear
// of what happens; see docs/ask.md. A sandbox that asks nothing and tells nothing
// is an error.
func DialAsk(e Running, want ...string) (*Asker, error) {
	path := askSocket(e)
	if path == "" {
		return nil, errNoRegistry
	}
	c, err := ask.Dial(path, want...)
	if err != nil {
		return nil, err
	}
	return &Asker{c, e}, nil
}

var errNoRegistry = errors.New("running sandboxes are not listed on this system")

// ListRemembered gives the answers that hold: in the running sandboxes, and in
// the user's policy.
func ListRemembered(load LoadOptions) ([]Remembered, error) {
	var out []Remembered
	for _, e := range List() {
		a, err := DialAsk(e)
		if err != nil {
			continue // it asks nothing
		}
		m, err := a.Call(ask.Message{Type: ask.TypeList})
		a.Close()
		if err != nil {
			return nil, fmt.Errorf("ask sandbox %s: %w", e.ID, err)
		}
		for _, r := range m.List {
			out = append(out, Remembered{Remembered: r, Sandbox: e.ID})
		}
	}
	written, err := rememberedRules(load)
	return append(out, written...), err
}

// Forget drops the answers about exactly this entry, and gives their number.
func Forget(load LoadOptions, match string) (n int, err error) {
	for _, e := range List() {
		a, err := DialAsk(e)
		if err != nil {
			continue
		}
		m, err := a.Call(ask.Message{Type: ask.TypeForget, Match: match})
		a.Close()
		if err != nil {
			return n, fmt.Errorf("ask sandbox %s: %w", e.ID, err)
		}
		n += m.N
	}
	written, err := forgetRules(load, match)
	return n + written, err
}
