package audit

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/sallyport/sallyport/internal/event"
)

// violationMost is how much of a line is kept, in characters.
const violationMost = 1000

// Violation writes a denial as the one line that programs know which show the
// violations of a sandbox to a language model: nothing in it ends the line, or
// the element it stands in.
func Violation(op event.Operation, o event.Object, reason event.Reason, detail event.Text) string {
	why := string(detail)
	if why == "" {
		why = reason.String()
	}
	what := op.String()
	switch op {
	case event.NetConnect, event.NetUDP, event.NetDNS, event.NetICMP:
		what = "network-outbound"
	case event.NetBind:
		what = "network-bind"
	case event.FileRead, event.FileWrite, event.FileCreate, event.FileDelete, event.FileRename, event.FileLink, event.FileMeta, event.FileExec:
		what = strings.Replace(what, ".", "-", 1)
	case event.SysRefused:
		what = "syscall"
	}
	return tagless(fmt.Sprintf("deny %s %s (%s)", what, violationObject(op, o), why))
}

func violationObject(op event.Operation, o event.Object) string {
	host := string(o.Host)
	if host == "" {
		host = o.Addr
	}
	switch {
	case o.Path != "" && o.To != "":
		return string(o.Path) + " to " + string(o.To)
	case o.Path != "":
		return string(o.Path)
	case op == event.NetDNS:
		return host
	case host != "" && strings.Contains(host, ":"):
		return fmt.Sprintf("[%s]:%d", host, o.Port)
	case host != "":
		return fmt.Sprintf("%s:%d", host, o.Port)
	case o.Syscall != "":
		return o.Syscall
	}
	return o.Socket + string(o.Ref)
}

// tagless makes one line of text that shows as what it is.
func tagless(s string) string {
	n := 0
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if n++; n > violationMost {
			return -1
		}
		switch {
		case r == '<' || r == '>':
			return -1
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029', r == unicode.ReplacementChar:
			return ' '
		}
		return r
	}, s))
}
