package seatbelt

import (
	"math"
	"strconv"
	"strings"
)

// Violation is the kernel's report of a refused operation:
//
//	[N " duplicate report" ["s"] " for "] "Sandbox: " NAME "(" PID ")" SP+
//	"deny(" ERRNO ") " OP [" " TARGET] ["\n" MESSAGE]
type Violation struct {
	Count uint64 // attempts it stands for: 1, or N of a duplicate report
	// Name is the process's: truncated, and its own choice.
	Name   string
	PID    int
	Errno  int
	Op     string // as the profile language names it
	Target string // the process's choice; often empty, may hold newlines
	// Message is the last line, if there is more than one: what the rule that
	// refused was told to say.
	Message string
	// Cut reports that the log cut the text, so that the message is missing.
	Cut bool
}

// Outcome says what became of a line or record of the log.
type Outcome uint8

const (
	Broken       Outcome = iota // not what it should be
	Kept                        // a violation
	Unrelated                   // of the kernel or sandboxd, and no report
	OtherProcess                // written by somebody else, whatever it says
	Platform                    // a refusal by the system's own policy
	Allowed                     // the report of an allowed operation
	Banner                      // of the log program itself
	TooLong                     // more than a record may have
	OtherTag                    // of another sandbox
	outcomes
)

var outcomeNames = [outcomes]string{"broken", "kept", "unrelated", "other process", "platform policy", "allowed",
	"banner", "too long", "other tag"}

func (o Outcome) String() string { return outcomeNames[o] }

// maxNameSpan bounds how far into a report its process's name may reach: the
// kernel keeps 32 bytes of it (2*MAXCOMLEN, sys/param.h).
const maxNameSpan = 256

// cutMarks end a text that the log did not keep whole.
var cutMarks = []string{"‹…>", "<…>"}

// ParseViolation reads a record's text. Without a violation, the Outcome says
// why there is none.
func ParseViolation(text string) (Violation, Outcome) {
	v := Violation{Count: 1}
	rest := text
	if n, after, ok := cutDuplicates(text); ok {
		v.Count, rest = n, after
	}
	rest, ok := strings.CutPrefix(rest, "Sandbox: ")
	if !ok {
		if strings.HasPrefix(rest, "System Policy: ") {
			return Violation{}, Platform
		}
		return Violation{}, Unrelated
	}
	tail, ok := v.head(rest)
	if !ok {
		return Violation{}, notDenied(rest)
	}
	for _, mark := range cutMarks {
		v.Cut = v.Cut || strings.HasSuffix(tail, mark)
	}
	if i := strings.LastIndexByte(tail, '\n'); i >= 0 && !v.Cut {
		tail, v.Message = tail[:i], tail[i+1:]
	}
	v.Target = strings.TrimPrefix(tail, " ")
	return v, Kept
}

// cutDuplicates takes "N duplicate reports for " off.
func cutDuplicates(s string) (n uint64, rest string, ok bool) {
	digits, rest := leadingDigits(s)
	if digits == "" {
		return 0, "", false
	}
	if rest, ok = strings.CutPrefix(rest, " duplicate report"); !ok {
		return 0, "", false
	}
	if rest, ok = strings.CutPrefix(strings.TrimPrefix(rest, "s"), " for "); !ok {
		return 0, "", false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return n, rest, err == nil && n > 0
}

// head reads NAME(PID) deny(ERRNO) OP at the first place where it can be read,
// and gives what follows. A name may look like any part of it.
func (v *Violation) head(s string) (rest string, ok bool) {
	for from := 0; ; {
		i := strings.IndexByte(s[from:min(len(s), maxNameSpan)], '(')
		if i < 0 {
			return "", false
		}
		i += from
		if rest, ok = v.split(s[i+1:]); ok {
			v.Name = s[:i]
			return rest, true
		}
		if from = i + 1; from >= maxNameSpan {
			return "", false
		}
	}
}

// split reads PID) deny(ERRNO) OP.
func (v *Violation) split(s string) (rest string, ok bool) {
	pid, s, ok := closedNumber(s)
	if !ok || !strings.HasPrefix(s, " ") {
		return "", false
	}
	if s, ok = strings.CutPrefix(strings.TrimLeft(s, " "), "deny("); !ok {
		return "", false
	}
	errno, s, ok := closedNumber(s)
	if !ok || !strings.HasPrefix(s, " ") {
		return "", false
	}
	op := s[1:]
	if i := strings.IndexAny(op, " \n"); i >= 0 {
		op = op[:i]
	}
	if !validOp(op) {
		return "", false
	}
	v.PID, v.Errno, v.Op = pid, errno, op
	return s[1+len(op):], true
}

// closedNumber reads a number and the parenthesis after it.
func closedNumber(s string) (n int, rest string, ok bool) {
	digits, rest := leadingDigits(s)
	if len(digits) == 0 || len(digits) > 10 || !strings.HasPrefix(rest, ")") {
		return 0, "", false
	}
	n, err := strconv.Atoi(digits)
	return n, rest[1:], err == nil && n <= math.MaxInt32
}

func leadingDigits(s string) (digits, rest string) {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n], s[n:]
}

// validOp matches ^[a-z][a-z0-9-]*\*?(<[a-z*-]+>)?$.
func validOp(op string) bool {
	i := 0
	for i < len(op) && ('a' <= op[i] && op[i] <= 'z' || i > 0 && ('0' <= op[i] && op[i] <= '9' || op[i] == '-')) {
		i++
	}
	if i == 0 {
		return false
	}
	if i < len(op) && op[i] == '*' {
		i++
	}
	inner, ok := strings.CutPrefix(op[i:], "<")
	if !ok {
		return op[i:] == ""
	}
	inner, ok = strings.CutSuffix(inner, ">")
	return ok && inner != "" && strings.Trim(inner, "abcdefghijklmnopqrstuvwxyz*-") == ""
}

// notDenied says what a report is that denies nothing. It is asked last, so
// that no name can make a denial pass for one of these.
func notDenied(s string) Outcome {
	line, _, _ := strings.Cut(s, "\n")
	for i := 0; i < len(line); i++ {
		if line[i] != '(' {
			continue
		}
		_, rest, ok := closedNumber(line[i+1:])
		if !ok || !strings.HasPrefix(rest, " ") {
			continue
		}
		switch rest = strings.TrimLeft(rest, " "); {
		case strings.HasPrefix(rest, "System Policy: "):
			return Platform
		case strings.HasPrefix(rest, "allow ") || strings.HasPrefix(rest, "allow("):
			return Allowed
		}
	}
	return Broken
}
