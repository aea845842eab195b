package audit

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// Format gives an event as one line for people:
//
//	TIME VERDICT OPERATION OBJECT (count) REASON RULE PROCESS[pid]
//
// Whatever a sandbox may have chosen is printable, and quoted where it could
// pass for another column. paint, which may be nil, gives a verdict its colour.
func Format(e event.Event, paint func(event.Verdict, string) string) string {
	verdict := e.Verdict.String()
	if paint != nil {
		verdict = paint(e.Verdict, verdict)
	}
	columns := []string{e.Time.Local().Format("2006-01-02T15:04:05.000Z07:00"), verdict,
		e.Operation.String(), FormatObject(e.Object)}
	if e.Count > 1 {
		columns = append(columns, fmt.Sprintf("(%d)", e.Count))
	}
	columns = append(columns, e.Reason.String(), column(event.Text(e.Rule)), formatProcess(e.Process))
	if e.LostSinceLast > 0 {
		columns = append(columns, fmt.Sprintf("(%d lost before this)", e.LostSinceLast))
	}
	return strings.Join(columns, " ")
}

// FormatObject gives an object as one word: host:port/proto, a path, or what
// else names it best.
func FormatObject(o event.Object) string {
	switch {
	case o.Path != "":
		return column(o.Path)
	case o.Host != "" || o.Addr != "":
		return column(event.Text(endpoint(o)))
	case o.Ref != "":
		return column(o.Ref)
	case o.Socket != "":
		return column(event.Text(o.Socket))
	case o.Syscall != "":
		return column(event.Text(o.Syscall))
	case o.Proto != "":
		return column(event.Text(o.Proto))
	}
	return "-"
}

func endpoint(o event.Object) string {
	s := string(o.Host)
	if s == "" {
		s = o.Addr
	}
	if strings.Contains(s, ":") {
		s = "[" + s + "]"
	}
	if o.Port != 0 {
		s += ":" + strconv.Itoa(int(o.Port))
	}
	if o.Proto != "" && o.Proto != "tcp" {
		s += "/" + o.Proto
	}
	return s
}

func formatProcess(p *event.Process) string {
	if p == nil {
		return "-"
	}
	name := p.Comm
	if name == "" {
		name = p.Exe
	}
	return column(name) + "[" + strconv.Itoa(p.PID) + "]"
}

// column gives text as one column: nothing in it can end the line, obey a
// terminal or begin another column.
func column(t event.Text) string {
	s := t.Printable()
	if s == "" || strings.ContainsAny(s, ` "`) {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}
