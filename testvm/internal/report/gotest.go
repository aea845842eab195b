package report

import (
	"regexp"
	"strings"
)

// Test is the result of one Go test, subtests included.
type Test struct {
	Name   string
	Status Status
	Reason string // of a skip: the test's last words
	log    string
}

// Status is how a test ended. The zero value: it did not.
type Status uint8

const (
	Unfinished Status = iota
	Failed
	Skipped
	Passed
)

func (s Status) String() string {
	return [...]string{"UNFINISHED", "FAIL", "SKIP", "PASS"}[s]
}

// marker starts the framing lines of -test.v=test2json, so that what a test
// prints is never mistaken for one (go doc cmd/test2json).
const marker = "\x16"

var (
	endLine  = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)$`)
	nameLine = regexp.MustCompile(`^=== (RUN|CONT|NAME|PAUSE) +(\S*)$`)
	atLine   = regexp.MustCompile(`^\s*\S+\.go:\d+: `)
)

// ParseTests reads the output of a test binary run with -test.v=test2json.
func ParseTests(output []byte) []Test {
	return parse(output).tests
}

// Failures is what people need to see of a test binary that failed: the output of
// tests that failed or never ended, and what belongs to no test.
func Failures(output []byte) []byte {
	p := parse(output)
	var b strings.Builder
	for _, t := range p.tests {
		if t.Status == Failed || t.Status == Unfinished {
			b.WriteString("--- " + t.Status.String() + ": " + t.Name + "\n" + t.log)
		}
	}
	b.WriteString(p.loose.String())
	return []byte(b.String())
}

// parser follows the framing of a test binary's output.
type parser struct {
	tests   []Test
	index   map[string]int // into tests
	current string         // the test that prints
	loose   strings.Builder
}

func parse(output []byte) *parser {
	p := &parser{index: map[string]int{}}
	for _, line := range strings.SplitAfter(string(output), "\n") {
		p.line(line)
	}
	return p
}

func (p *parser) find(name string) *Test {
	i, ok := p.index[name]
	if !ok {
		i = len(p.tests)
		p.index[name] = i
		p.tests = append(p.tests, Test{Name: name})
	}
	return &p.tests[i]
}

func (p *parser) line(line string) {
	text, frame := framing(line)
	if text != "" {
		p.print(text)
	}
	if m := nameLine.FindStringSubmatch(frame); m != nil {
		p.current = m[2]
		if m[1] == "RUN" && p.current != "" {
			p.find(p.current)
		}
	} else if m := endLine.FindStringSubmatch(frame); m != nil {
		t := p.find(m[2])
		t.Status = map[string]Status{"PASS": Passed, "FAIL": Failed, "SKIP": Skipped}[m[1]]
		if t.Status == Skipped {
			t.Reason = t.lastWords()
		}
		p.current = t.Name
	} else if frame != "" {
		p.print(frame + "\n")
	}
}

func (p *parser) print(text string) {
	if p.current == "" {
		p.loose.WriteString(text)
		return
	}
	p.find(p.current).log += text
}

// lastWords is the last line that a test logged, without its place in the source.
func (t Test) lastWords() string {
	lines := strings.Split(strings.TrimSpace(t.log), "\n")
	return strings.TrimSpace(atLine.ReplaceAllString(lines[len(lines)-1], ""))
}

// Said is what a test logged after a prefix; empty if nothing.
func (t Test) Said(prefix string) string {
	for line := range strings.Lines(t.log) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(atLine.ReplaceAllString(line, "")), prefix); ok {
			return text
		}
	}
	return ""
}

// framing splits a line at its last marker: a test's own output may stand before
// it when it lacks a newline. Without a marker all of it is output.
func framing(line string) (text, frame string) {
	i := strings.LastIndex(line, marker)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimRight(line[i+len(marker):], "\r\n")
}

// Count says how many tests ended in a status.
func Count(tests []Test, s Status) int {
	n := 0
	for _, t := range tests {
		if t.Status == s {
			n++
		}
	}
	return n
}
