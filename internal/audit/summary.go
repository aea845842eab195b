package audit

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/internal/event"
)

const (
	summarySchema = 1
	summaryGroups = 1000 // kept
	summaryShown  = 10   // as text
)

// Summary is what is said at the end of a run, and the whole of --json-summary.
// Add fills Counts, Lost, System, Denials and DenialsLeftOut; the run fills the rest.
type Summary struct {
	Schema       int                      `json:"schema"`
	Sandbox      string                   `json:"sandbox"`
	PolicySHA256 string                   `json:"policy_sha256"`
	Tier         event.Tier               `json:"tier"`
	Exit         int                      `json:"exit"`
	Counts       map[event.Verdict]uint64 `json:"counts"` // attempts
	Lost         uint64                   `json:"lost"`
	// System counts, of the attempts, those that the host itself refused.
	System uint64 `json:"system,omitempty"`
	// NotRecorded names what this tier refuses without a record.
	NotRecorded []string `json:"not_recorded"`
	Denials     []Denial `json:"denials"` // most frequent first
	// DenialsLeftOut counts denied attempts of kinds beyond those listed.
	DenialsLeftOut uint64 `json:"denials_left_out,omitempty"`
	// Planted lists what appeared under protected names during the run.
	Planted []Planted `json:"planted,omitempty"`
}

// Planted is a file or directory that appeared under a protected name.
type Planted struct {
	Path event.Text `json:"path"`
	Rule string     `json:"rule"`
	// Kept is where it was moved, out of the way of programs on the host; empty
	// if it is still where it was: because it is Inert, or for an Error.
	Kept  event.Text `json:"kept,omitempty"`
	Inert bool       `json:"inert,omitempty"` // as git itself makes it
	Error event.Text `json:"error,omitempty"`
}

// Denial is a group of equal denials.
type Denial struct {
	Operation event.Operation `json:"operation"`
	Object    event.Object    `json:"object"`
	Reason    event.Reason    `json:"reason"`
	Rule      string          `json:"rule"`
	Count     uint64          `json:"count"`
	// Suggest is the smallest policy change that would allow it, or empty.
	Suggest string     `json:"suggest"`
	Detail  event.Text `json:"-"` // of the first
	// Ignored denials are counted, and not shown as text.
	Ignored bool `json:"ignored,omitempty"`
}

// Summariser adds events up in bounded memory. It is safe for concurrent use.
type Summariser struct {
	suggest func(event.Event) string
	ignore  func(event.Event) bool

	mu      sync.Mutex
	groups  map[group]*Denial
	counts  map[event.Verdict]uint64
	lost    uint64
	system  uint64
	leftOut uint64
}

type group struct {
	operation event.Operation
	object    event.Object
	reason    event.Reason
	rule      string
}

// NewSummariser gives an empty one; suggest is asked once for each group of
// denials and may be nil.
func NewSummariser(suggest func(event.Event) string) *Summariser {
	return &Summariser{suggest: suggest, groups: map[group]*Denial{}, counts: map[event.Verdict]uint64{}}
}

// Ignore says which denials are not to be shown. It is asked once for each group.
func (s *Summariser) Ignore(which func(event.Event) bool) { s.ignore = which }

// Add counts an event. The host's own refusals (reason system) are counted but
// not listed: no policy caused them and none would change them.
func (s *Summariser) Add(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(e.Count, 1)
	s.counts[e.Verdict] += n
	s.lost += e.LostSinceLast
	if e.Verdict.Denied() && e.Reason == event.System {
		s.system += n
	}
	if !e.Verdict.Denied() || e.Reason == event.System {
		return
	}
	g := group{e.Operation, e.Object, e.Reason, e.Rule}
	if d, ok := s.groups[g]; ok {
		d.Count += n
		return
	}
	if len(s.groups) >= summaryGroups {
		s.leftOut += n
		return
	}
	d := &Denial{Operation: e.Operation, Object: e.Object, Reason: e.Reason, Rule: e.Rule, Detail: e.Detail, Count: n}
	d.Ignored = s.ignore != nil && s.ignore(e)
	if s.suggest != nil {
		d.Suggest = s.suggest(e)
	}
	s.groups[g] = d
}

// Summary gives the sums; the order of the denials depends on nothing but them.
func (s *Summariser) Summary() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Summary{Schema: summarySchema, Counts: map[event.Verdict]uint64{}, Lost: s.lost, System: s.system,
		NotRecorded: []string{}, Denials: make([]Denial, 0, len(s.groups)), DenialsLeftOut: s.leftOut}
	for v, n := range s.counts {
		out.Counts[v] = n
	}
	for _, d := range s.groups {
		out.Denials = append(out.Denials, *d)
	}
	slices.SortFunc(out.Denials, compareDenials)
	return out
}

func compareDenials(a, b Denial) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Operation, b.Operation),
		cmp.Compare(FormatObject(a.Object), FormatObject(b.Object)), cmp.Compare(a.Object.Addr, b.Object.Addr),
		cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Rule, b.Rule),
		strings.Compare(fmt.Sprint(a.Object), fmt.Sprint(b.Object)))
}

// Denied is the number of attempts that the policy refused: unlike Counts it
// leaves the host's own refusals out.
func (s Summary) Denied() uint64 {
	n := s.DenialsLeftOut
	for _, d := range s.Denials {
		n += d.Count
	}
	return n
}

// WriteText writes the summary for people, or nothing if there is nothing to
// say.
func (s Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	if n := s.Denied(); n > 0 {
		fmt.Fprintf(&b, "sallyport: %s denied\n", plural(n, "attempt"))
	}
	shown := slices.DeleteFunc(slices.Clone(s.Denials), func(d Denial) bool { return d.Ignored })
	for i, d := range shown {
		if i == summaryShown {
			fmt.Fprintf(&b, "  and %d more\n", len(shown)-i)
			break
		}
		d.write(&b)
	}
	if n := len(s.Denials) - len(shown); n > 0 {
		fmt.Fprintf(&b, "  and %d that the policy says to ignore\n", n)
	}
	if s.DenialsLeftOut > 0 {
		fmt.Fprintf(&b, "  and %s of kinds beyond %d\n", plural(s.DenialsLeftOut, "attempt"), len(s.Denials))
	}
	if s.System > 0 {
		fmt.Fprintf(&b, "sallyport: %s that the host itself refused, not the policy: sallyport audit query --all\n", plural(s.System, "attempt"))
	}
	s.writePlanted(&b)
	if s.Lost > 0 {
		fmt.Fprintf(&b, "sallyport: %s could not be recorded\n", plural(s.Lost, "attempt"))
	}
	if len(s.NotRecorded) > 0 {
		fmt.Fprintf(&b, "sallyport: refused but not recorded in tier %s: %s\n",
			s.Tier, event.Text(strings.Join(s.NotRecorded, ", ")).Printable())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Appeared is the number of files under protected names that need somebody to
// look at them.
func (s Summary) Appeared() (n int) {
	for _, p := range s.Planted {
		if !p.Inert {
			n++
		}
	}
	return n
}

func (s Summary) writePlanted(b *strings.Builder) {
	n := s.Appeared()
	if n > 0 {
		fmt.Fprintf(b, "sallyport: %s appeared under a protected name, which programs on the host would trust\n", plural(uint64(n), "file"))
	}
	for _, p := range s.Planted {
		switch {
		case p.Inert:
		case p.Kept == "":
			fmt.Fprintf(b, "  %s (%s): still there: %s\n", p.Path.Printable(), column(event.Text(p.Rule)), p.Error.Printable())
		default:
			fmt.Fprintf(b, "  %s (%s): moved; look at it, and take it back with:\n     mv -n %s %s\n",
				p.Path.Printable(), column(event.Text(p.Rule)), quoted(p.Kept), quoted(p.Path))
		}
	}
}

// quoted is for a shell, as far as it can be shown.
func quoted(t event.Text) string {
	return "'" + strings.ReplaceAll(printableLine(string(t)), "'", `'\''`) + "'"
}

func (d Denial) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %d× %s %s: %s, rule %s\n", d.Count, d.Operation, FormatObject(d.Object), d.Reason,
		column(event.Text(d.Rule)))
	if d.Suggest == "" {
		return
	}
	for i, line := range strings.Split(d.Suggest, "\n") {
		lead := "     to allow: "
		if i > 0 {
			lead = "               "
		}
		b.WriteString(lead + printableLine(line) + "\n")
	}
}

// printableLine is Printable for text that is meant to be pasted: backslashes
// stay single.
func printableLine(s string) string {
	parts := strings.Split(s, `\`)
	for i, p := range parts {
		parts[i] = event.Text(p).Printable()
	}
	return strings.Join(parts, `\`)
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
