package report

import (
	"bytes"
	"regexp"
	"strings"
)

// Test is the result of one Go test, subtests included.
type Test struct {
	Name   string
	Status Status
	Reason string // of a skip: the test's last words
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
	var tests []Test
	index := map[string]int{}
	last := map[string]string{}
	current := ""
	find := func(name string) *Test {
		i, ok := index[name]
		if !ok {
			i = len(tests)
			index[name] = i
			tests = append(tests, Test{Name: name})
		}
		return &tests[i]
	}
	for _, line := range strings.Split(string(output), "\n") {
		frame := framing(line)
		if m := nameLine.FindStringSubmatch(frame); m != nil {
			current = m[2]
			if m[1] == "RUN" && current != "" {
				find(current)
			}
			continue
		}
		m := endLine.FindStringSubmatch(frame)
		if m == nil {
			if text := strings.TrimSpace(atLine.ReplaceAllString(line, "")); text != "" {
				last[current] = text
			}
			continue
		}
		t := find(m[2])
		t.Status = map[string]Status{"PASS": Passed, "FAIL": Failed, "SKIP": Skipped}[m[1]]
		if t.Status == Skipped {
			t.Reason = last[t.Name]
		}
		current = t.Name
	}
	return tests
}

// framing gives what follows the last marker of a line: a test's own output may
// stand before it when it lacks a newline. Empty: the line is not framing.
func framing(line string) string {
	i := strings.LastIndex(line, marker)
	if i < 0 {
		return ""
	}
	return strings.TrimSuffix(line[i+len(marker):], "\r")
}

// Readable is a test's output without markers, for people.
func Readable(output []byte) []byte {
	return bytes.ReplaceAll(output, []byte(marker), nil)
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
