package sallyport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Change says what became of a policy that took another's place in a running
// sandbox.
type Change struct {
	PolicySHA256 string
	// Fixed names the keys of which the new policy says something else than what
	// the sandbox was built of. They have no effect before the next run.
	Fixed []string
}

// updates replaces the policy of one run, one update after the other.
type updates struct {
	mu      sync.Mutex
	live    *live // nil: ended
	opts    *Options
	env     policy.Env
	missing func(*policy.Policy) []policy.Unbuilt // of what a policy asks for
	// agree is asked last, and told the files of the policy; nil: nobody is.
	agree  func(sources []policy.Source, flags policy.Flags) error
	record func(event.Event)
	say    func(message, hint string)
	lines  int // read from a control descriptor
}

var errEnded = errors.New("update the policy: the sandbox has ended")

// begin takes updates from now on, from the run's control descriptor, too.
func (u *updates) begin(send func(os.Signal) error) {
	if c := u.opts.Control; c != nil {
		go u.control(c)
	}
	if u.opts.begun != nil {
		u.opts.begun(u, send)
	}
}

// apply replaces the policy. With an error nothing has changed. Both are in the
// record.
func (u *updates) apply(load LoadOptions, from string) (*Change, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.live == nil {
		return nil, errEnded
	}
	change, err := u.replace(load)
	if err != nil {
		err = asError(fmt.Errorf("update the policy: %w", err))
		u.tell(from, event.RequestInvalid, "the policy was not replaced: "+firstLine(err))
		return nil, err
	}
	detail := "the policy was replaced"
	if len(change.Fixed) > 0 {
		detail += "; as it was at the start: " + strings.Join(change.Fixed, ", ")
	}
	u.tell(from, event.RuleAllowed, detail)
	return change, nil
}

func (u *updates) replace(load LoadOptions) (*Change, error) {
	var sources []policy.Source
	load.Env, load.seen = u.env, func(s policy.Source) { sources = append(sources, s) }
	load.Env.HostAddrs = nil // they may have changed, too
	next, err := LoadPolicy(load)
	if err != nil {
		return nil, err
	}
	if err := checkBuilt(next, u.missing(next), u.say); err != nil {
		return nil, err
	}
	if u.agree != nil {
		if err := u.agree(sources, load.Flags); err != nil {
			return nil, err
		}
	}
	u.live.now.Store(next)
	return &Change{PolicySHA256: next.SHA256(), Fixed: u.live.start.Fixed(next)}, nil
}

func (u *updates) tell(from string, reason event.Reason, detail string) {
	now := time.Now()
	u.record(event.Event{
		Verdict: event.Audit, Layer: event.LayerSupervisor, Operation: event.PolicyUpdate, Reason: reason,
		Rule: "builtin:policy-update", Object: event.Object{Path: event.Text(from)}, Detail: event.Text(detail),
		Count: 1, First: now, Last: now, Time: now,
	})
}

// reload reads the policy's files anew, and says what became of it.
func (u *updates) reload() {
	u.report(u.apply(u.opts.Policy, "SIGHUP"))
}

func (u *updates) report(c *Change, err error) {
	switch {
	case errors.Is(err, errEnded):
	case err != nil:
		u.say(err.Error(), "the policy is as it was: see 'sallyport policy check'")
	case len(c.Fixed) > 0:
		u.say("the policy was replaced, but what the sandbox was built of stays as it was: "+strings.Join(c.Fixed, ", "),
			"start a new run for these")
	}
}

// control reads whole policies, one a line, until the end of the input.
func (u *updates) control(in io.Reader) {
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		line, tooLong, err := readLine(r, policy.MaxBytes)
		if tooLong {
			u.say(fmt.Sprintf("update the policy: a line of more than %d bytes", policy.MaxBytes), "the policy is as it was")
		} else if text := strings.TrimSpace(string(line)); text != "" {
			u.lines++
			name := fmt.Sprintf("control line %d", u.lines)
			load := u.opts.Policy
			load.Files, load.Texts = nil, []Text{{Name: name, Data: []byte(text)}}
			u.report(u.apply(load, name))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				u.say("read updates of the policy: "+err.Error(), "there will be no more of them")
			}
			return
		}
	}
}

// readLine reads a line; of one that is too long it keeps nothing.
func readLine(r *bufio.Reader, most int) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > most {
			tooLong, line = true, nil
		}
		if !tooLong {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

// end makes every later update an error, and waits for the one there is.
func (u *updates) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.live = nil
}

// firstLine shortens an error of many lines.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
