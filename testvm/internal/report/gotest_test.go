package report

import (
	"strings"
	"testing"
)

// frame marks the lines that start with one of the framing words, as
// -test.v=test2json does.
func frame(text string) []byte {
	lines := strings.SplitAfter(text, "\n")
	for i, l := range lines {
		if trimmed := strings.TrimLeft(l, " "); strings.HasPrefix(trimmed, "=== ") || strings.HasPrefix(trimmed, "--- ") {
			lines[i] = marker + l
		}
	}
	return []byte(strings.Join(lines, ""))
}

func TestParseTests(t *testing.T) {
	output := frame(`=== RUN   TestPass
=== RUN   TestParent
=== RUN   TestParent/child
    a_test.go:7: first words
    a_test.go:8: needs a kernel since 6.7
=== NAME  TestParent
    a_test.go:9: between
    --- SKIP: TestParent/child (0.00s)
=== RUN   TestParent/other
    --- FAIL: TestParent/other (1.20s)
--- FAIL: TestParent (1.20s)
--- PASS: TestPass (0.00s)
=== RUN   TestStuck
working
`)
	output = append(output, " --- PASS: TestPrinted (0.00s)\n"...) // without a marker: somebody's output
	want := map[string]Test{
		"TestPass":         {Status: Passed},
		"TestParent":       {Status: Failed},
		"TestParent/child": {Status: Skipped, Reason: "needs a kernel since 6.7"},
		"TestParent/other": {Status: Failed},
		"TestStuck":        {Status: Unfinished},
	}
	got := ParseTests(output)
	if len(got) != len(want) {
		t.Fatalf("%d tests: %+v", len(got), got)
	}
	for _, g := range got {
		if w := want[g.Name]; g.Status != w.Status || g.Reason != w.Reason {
			t.Errorf("%s: %s %q, want %s %q", g.Name, g.Status, g.Reason, w.Status, w.Reason)
		}
	}
	if Count(got, Failed) != 2 || Count(got, Passed) != 1 {
		t.Error("miscounted")
	}
}

func TestParseTestsFindsFramingAfterUnendedLine(t *testing.T) {
	got := ParseTests([]byte(marker + "=== RUN   TestA\nno newline" + marker + "--- PASS: TestA (0.00s)\n"))
	if len(got) != 1 || got[0].Status != Passed {
		t.Errorf("tests %+v", got)
	}
}

func TestFailuresShowWhatFailedAndNothingElse(t *testing.T) {
	got := string(Failures(frame(`=== RUN   TestGood
    a_test.go:1: chatter
--- PASS: TestGood (0.00s)
=== RUN   TestBad
    a_test.go:2: leaked
--- FAIL: TestBad (0.00s)
=== RUN   TestStuck
goroutine 1 [select]:
=== NAME  
FAIL
`)))
	for _, want := range []string{"--- FAIL: TestBad", "leaked", "--- UNFINISHED: TestStuck", "goroutine 1 [select]:", "\nFAIL\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if strings.Contains(got, "chatter") || strings.Contains(got, marker) {
		t.Errorf("shows %q", got)
	}
}

func FuzzParseTests(f *testing.F) {
	f.Add([]byte(passing))
	f.Add(frame("=== RUN   TestA\n--- SKIP: TestA (0.00s)\n=== NAME  \n"))
	f.Add([]byte(marker + marker + "--- PASS:  (s)\n"))
	f.Fuzz(func(t *testing.T, output []byte) {
		seen := map[string]bool{}
		for _, test := range ParseTests(output) {
			if seen[test.Name] {
				t.Fatalf("%q is there twice", test.Name)
			}
			seen[test.Name] = true
			_ = test.Status.String()
		}
		if strings.Count(string(output), marker) == 0 && len(seen) > 0 {
			t.Errorf("tests %v in unframed output", seen)
		}
		Failures(output)
	})
}
