package ask

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Screen is the user's terminal, which the command may be using.
type Screen interface {
	// Free reports whether a question can be put there now: no program has drawn
	// all over it, or reads it key by key.
	Free() bool
	// Borrow takes it from the command until the Page is given back. What was
	// typed before is thrown away: it was not typed as an answer.
	Borrow() (Page, error)
}

// Page is a borrowed terminal.
type Page interface {
	io.Writer
	// ReadLine gives one whole line, without its end. It ends early with stop.
	ReadLine(stop <-chan struct{}) (string, error)
	Give()
}

// ErrStopped is ReadLine's for a question that was settled elsewhere meanwhile.
var ErrStopped = errors.New("settled")

// freeEvery is how often it is looked whether the terminal has become free.
const freeEvery = 200 * time.Millisecond

// mostTries is how often a line that is no answer is asked for again.
const mostTries = 3

// StartTerminal asks on a terminal, one question at a time, until stop is
// called.
func StartTerminal(b *Broker, s Screen) (stop func()) {
	t := &terminal{b: b, s: s, w: b.Watch(true, false), quit: make(chan struct{}), ended: make(chan struct{})}
	go t.run()
	return func() {
		close(t.quit)
		<-t.ended
		t.w.Stop()
	}
}

type terminal struct {
	b     *Broker
	s     Screen
	w     *Watcher
	quit  chan struct{}
	ended chan struct{}
}

func (t *terminal) run() {
	defer close(t.ended)
	tick := time.NewTicker(freeEvery)
	defer tick.Stop()
	rung := ""
	for {
		open := t.b.Pending()
		if len(open) > 0 && t.s.Free() {
			if t.prompt(open[0], len(open)-1) {
				continue
			}
		} else if bell, ok := t.s.(interface{ Notice() }); ok && len(open) > 0 && open[0].ID != rung {
			rung = open[0].ID
			bell.Notice()
		}
		wait := tick.C
		if len(open) == 0 {
			wait = nil
		}
		select {
		case <-t.quit:
			return
		case <-t.w.C:
		case <-wait:
		}
	}
}

// prompt puts one question. It reports false where the terminal is not to be had.
func (t *terminal) prompt(r Request, more int) bool {
	page, err := t.s.Borrow()
	if err != nil {
		return false
	}
	defer page.Give()
	stop, settled := make(chan struct{}), make(chan struct{})
	go func() { // of the watcher's signals, this one needs its own
		defer close(settled)
		t.untilSettled(r.ID, stop)
	}()
	defer func() { close(stop); <-settled }()
	if _, err := io.WriteString(page, reset+Prompt(r, more, t.b.CanRemember())); err != nil {
		return false
	}
	for tries := mostTries; ; tries-- {
		line, err := page.ReadLine(settled)
		if err != nil {
			return t.unanswered(page, r, err)
		}
		reply, err := ParseLine(line, r)
		if errors.Is(err, ErrHelp) && tries > -10*mostTries {
			io.WriteString(page, Help+AskLine)
			continue
		}
		if err != nil && tries > 1 {
			fmt.Fprintf(page, "sallyport: %s\n%s", event.Text(err.Error()).Printable(), AskLine)
			continue
		}
		if err = t.b.Reply(reply, "tty"); err != nil {
			fmt.Fprintf(page, "sallyport: %s\n", event.Text(err.Error()).Printable())
		}
		return true
	}
}

// unanswered ends a question without a line.
func (t *terminal) unanswered(page Page, r Request, err error) bool {
	if errors.Is(err, ErrStopped) {
		s, _ := t.b.Outcome(r.ID)
		fmt.Fprintf(page, "\nsallyport: %s\n", SettledText(s))
		return true
	}
	fmt.Fprintln(page)
	_ = t.b.Reply(Reply{ID: r.ID}, "tty") // no line will come
	return true
}

// SettledText says what became of a question, for people.
func SettledText(s Settled) string {
	done := "refused"
	if s.Verdict == Allow {
		done = "allowed"
	}
	switch s.By {
	case "timeout":
		return "refused: there was no answer"
	case "withdrawn", "":
		return "nobody waits for the answer any more"
	}
	return done + " (" + s.By + ")"
}

// untilSettled returns when a question is not open any more.
func (t *terminal) untilSettled(id string, stop <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if t.b.find(id) == nil {
			return
		}
		select {
		case <-stop:
			return
		case <-t.quit:
			return
		case <-tick.C:
		}
	}
}

func (b *Broker) find(id string) *question {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.find(id)
}

// reset undoes what a program may have done to how a terminal shows text: an
// unfinished sequence, colours as the background's, another character set, a
// margin.
const reset = "\x18\x1b\\\x1b[0m\x0f\x1b(B\x1b[4l\x1b[?7h\x1b[?25h\x1b7\x1b[r\x1b8\r\n"

// AskLine ends a question.
const AskLine = "allow it? [y/s/t/w/d/n/x/?] "

// Help says what can be typed.
const Help = `  y            yes, once: for the connections that wait now
  s [MATCH]    yes, until the sandbox ends
  t 10m [MATCH]  yes, for this time
  w [MATCH]    yes, always: it becomes a rule of your policy
  d            no (asked again in half a minute at the earliest)
  n [MATCH]    no, until the sandbox ends
  x            no to everything else that would be asked until the sandbox ends
  MATCH        a host, HOST:PORT or *.DOMAIN; without it, exactly what is asked
`

// Prompt is a question as a person reads it. Nothing in it that comes from a
// sandbox can do anything to a terminal.
func Prompt(r Request, more int, remembers bool) string {
	var b strings.Builder
	who := "something"
	if r.Proc != nil {
		who = fmt.Sprintf("%s (process %d)", short(base(r.Proc.Exe)), r.Proc.PID)
	}
	fmt.Fprintf(&b, "sallyport: %s wants to reach %s port %d\n", who, Show(r.Host), r.Port)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-8s %s\n", name+":", event.Text(text).Printable())
		}
	}
	if r.Owner != "" && r.Owner != r.Host {
		line("domain", short(r.Owner))
	}
	if r.Proc != nil && len(r.Proc.Argv) > 0 {
		var words []string
		for _, a := range r.Proc.Argv {
			words = append(words, string(a))
		}
		line("command", string(clip(event.Text(strings.Join(words, " ")), 200)))
	}
	name := r.Session
	if r.Name != "" {
		name = string(clip(r.Name, 60)) + " (" + name + ")"
	}
	line("sandbox", name)
	var also []string
	if r.Pending > 1 {
		also = append(also, fmt.Sprintf("%d connections wait", r.Pending))
	}
	if more > 0 {
		also = append(also, fmt.Sprintf("%d more to ask", more))
	}
	line("also", strings.Join(also, ", "))
	keys := "y yes, once   s until the sandbox ends   t 10m for a time   "
	if remembers {
		keys += "w always   "
	}
	fmt.Fprintf(&b, "  %sd no   n not until the sandbox ends   ? more\n%s", keys, AskLine)
	return b.String()
}

func base(exe event.Text) string {
	s := string(exe)
	if s = s[strings.LastIndexByte(s, '/')+1:]; s == "" {
		return "something"
	}
	return event.Text(s).Printable()
}

// ErrHelp is ParseLine's for who asks what there is to say.
var ErrHelp = errors.New("there is help")

// ParseLine reads what was typed as an answer. Nothing typed is no answer.
func ParseLine(line string, r Request) (Reply, error) {
	words := strings.Fields(line)
	no := Reply{ID: r.ID}
	if len(words) == 0 {
		return no, errors.New("type one of y, s, t, w, d, n, x, or ?")
	}
	key, rest := words[0], words[1:]
	reply := Reply{ID: r.ID, Verdict: Allow}
	switch key {
	case "y", "yes":
	case "d", "no":
		reply.Verdict = Deny
	case "s":
		reply.Scope = Session
	case "w":
		reply.Scope = Always
	case "n":
		reply.Verdict, reply.Scope = Deny, Session
	case "x":
		reply.Verdict, reply.Scope, reply.Match = Deny, Session, "*"
	case "t":
		if len(rest) == 0 {
			return no, errors.New("for how long? t 10m")
		}
		seconds, err := parseSeconds(rest[0])
		if err != nil {
			return no, err
		}
		reply.Scope, reply.TTL, rest = TTL, seconds, rest[1:]
	case "?", "h", "help":
		return no, ErrHelp
	default:
		return no, fmt.Errorf("%q is none of y, s, t, w, d, n, x, ?", key)
	}
	if len(rest) > 0 && reply.Scope != Once && key != "x" {
		reply.Match, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 {
		return no, fmt.Errorf("%q is too much", strings.Join(rest, " "))
	}
	if _, err := ruleOf(reply, requestTarget(r)); err != nil {
		return no, err
	}
	return reply, nil
}

func parseSeconds(s string) (int, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if n, bad := strconv.Atoi(s); bad == nil {
			d, err = time.Duration(n)*time.Minute, nil
		}
	}
	if err != nil || d < time.Second || d > MaxTTL {
		return 0, fmt.Errorf("%q is not a time from 1s to %s", s, MaxTTL)
	}
	return int(d / time.Second), nil
}

func requestTarget(r Request) policy.NetRequest {
	h, err := policy.ParseHost(r.Host)
	if err != nil {
		return policy.NetRequest{}
	}
	return policy.NetRequest{Host: h, Port: r.Port}
}
