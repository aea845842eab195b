package report

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

var twoSteps = Job{Steps: []Step{{Name: "one", Deadline: time.Second}, {Name: "two", Tests: true, Deadline: time.Minute}}}

// stream is what a machine writes that reports some records.
func stream(t testing.TB, records ...Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

const passing = marker + "=== RUN   TestA\n" + marker + "--- PASS: TestA (0.00s)\nPASS\n"

// whole is a report of twoSteps in which all passed.
func whole() []Record {
	return []Record{
		{Kind: KindBoot, Release: "6.1.0"},
		{Kind: KindStart, Step: 0}, {Kind: KindOutput, Step: 0, Output: []byte("\xffhello\n")}, {Kind: KindEnd, Step: 0, Took: time.Second},
		{Kind: KindStart, Step: 1}, {Kind: KindOutput, Step: 1, Output: []byte(passing[:9])},
		{Kind: KindOutput, Step: 1, Output: []byte(passing[9:])}, {Kind: KindEnd, Step: 1, Took: time.Minute},
		{Kind: KindDone},
	}
}

func TestParseReadsWhatWriterWrites(t *testing.T) {
	var seen []Record
	rep, err := Parse(bytes.NewReader(stream(t, whole()...)), twoSteps, func(r Record) { seen = append(seen, r) })
	if err != nil {
		t.Fatal(err)
	}
	want := Report{Release: "6.1.0", Done: true, Steps: []Outcome{
		{Started: true, Ended: true, Took: time.Second, Output: []byte("\xffhello\n")},
		{Started: true, Ended: true, Took: time.Minute, Output: []byte(passing)},
	}}
	if !reflect.DeepEqual(rep, want) {
		t.Errorf("Parse = %+v, want %+v", rep, want)
	}
	if !reflect.DeepEqual(seen, whole()) {
		t.Errorf("observed %+v", seen)
	}
	if p := rep.Problems(twoSteps); len(p) != 0 {
		t.Errorf("problems %v", p)
	}
	if rep.Took() != 61*time.Second || twoSteps.Deadline() != 61*time.Second {
		t.Errorf("took %s of %s", rep.Took(), twoSteps.Deadline())
	}
}

// TestReportCutShortNeverPasses: wherever a machine dies, its job did not pass.
func TestReportCutShortNeverPasses(t *testing.T) {
	all := stream(t, whole()...)
	for n := range len(all) - 1 {
		rep, err := Parse(bytes.NewReader(all[:n]), twoSteps, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Problems(twoSteps)) == 0 {
			t.Fatalf("passed after %d of %d bytes: %q", n, len(all), all[:n])
		}
	}
}

func TestReportWithoutAnEndNeverPasses(t *testing.T) {
	for i := range whole() {
		if kind := whole()[i].Kind; kind == KindOutput || kind == KindBoot {
			continue // they promise nothing
		}
		records := append(append([]Record{}, whole()[:i]...), whole()[i+1:]...)
		rep, err := Parse(bytes.NewReader(stream(t, records...)), twoSteps, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Problems(twoSteps)) == 0 {
			t.Errorf("passed without record %d: %+v", i, whole()[i])
		}
	}
}

func TestProblems(t *testing.T) {
	const failing = marker + "=== RUN   TestA\n    a_test.go:1: no\n" + marker + "--- FAIL: TestA (0.00s)\nFAIL\n"
	const stuck = marker + "=== RUN   TestA\nSIGQUIT: quit\n"
	ended := Outcome{Started: true, Ended: true}
	tests := map[string]struct {
		change func(*Outcome)
		want   string
		shows  string
	}{
		"exit status":         {func(o *Outcome) { o.Exit = 3 }, "two: exit status 3, 0 of 1 tests failed", ""},
		"a failed test":       {func(o *Outcome) { o.Output, o.Exit = []byte(failing), 1 }, "two: exit status 1, 1 of 1 tests failed", "a_test.go:1: no"},
		"failed, exit 0":      {func(o *Outcome) { o.Output = []byte(failing) }, "two: exit status 0, 1 of 1 tests failed", "no"},
		"unfinished, exit 0":  {func(o *Outcome) { o.Output = []byte(stuck) }, "two: 1 of 1 tests never ended", "SIGQUIT"},
		"no test at all":      {func(o *Outcome) { o.Output = []byte("PASS\n") }, "two: ran no test", "PASS"},
		"hung":                {func(o *Outcome) { o.Hung, o.Output = true, []byte(stuck) }, "two: hung: killed at its deadline of 1m0s", "SIGQUIT: quit"},
		"could not be run":    {func(o *Outcome) { o.Error = "no such file" }, "two: no such file", ""},
		"never ended":         {func(o *Outcome) { o.Ended = false }, "two: never ended", ""},
		"never started":       {func(o *Outcome) { *o = Outcome{} }, "two: never started", ""},
		"nothing is the case": {func(*Outcome) {}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			second := ended
			second.Output = []byte(passing)
			tt.change(&second)
			rep := Report{Release: "6.1", Done: true, Steps: []Outcome{ended, second}}
			problems := rep.Problems(twoSteps)
			if tt.want == "" {
				if len(problems) != 0 || !second.Passed(twoSteps.Steps[1]) {
					t.Errorf("problems %v", problems)
				}
				return
			}
			if len(problems) != 1 || problems[0].String() != tt.want || !strings.Contains(string(problems[0].Output), tt.shows) {
				t.Errorf("problems %v, want %q showing %q", problems, tt.want, tt.shows)
			}
		})
	}
}

func TestMachineThatWentAwaySaysWhen(t *testing.T) {
	for n, want := range map[int]string{
		0: "the machine never began its job",
		1: "the machine went away between steps",
		2: "the machine went away during one",
		4: "the machine went away between steps",
		5: "the machine went away during two",
	} {
		rep, err := Parse(bytes.NewReader(stream(t, whole()[:n]...)), twoSteps, nil)
		if err != nil {
			t.Fatal(err)
		}
		problems := rep.Problems(twoSteps)
		if got := problems[len(problems)-1].String(); got != want {
			t.Errorf("after %d records: %q, want %q", n, got, want)
		}
	}
}

func TestJobWithoutStepsNeverPasses(t *testing.T) {
	if p := (Report{Done: true}).Problems(Job{}); len(p) != 1 {
		t.Errorf("problems %v", p)
	}
}

func TestParseCountsWhatMakesNoSense(t *testing.T) {
	const text = "no json\n" + `{"kind":"dance"}` + "\n" + `{"kind":"start","step":2}` + "\n" + `{"kind":"end","step":-1}` + "\n\n"
	rep, err := Parse(strings.NewReader(text), twoSteps, nil)
	if err != nil || rep.Garbage != 4 {
		t.Errorf("Parse = %+v, %v; want 4 lines of garbage", rep, err)
	}
}

func TestParseRefusesEndlessLine(t *testing.T) {
	if _, err := Parse(strings.NewReader(strings.Repeat("x", maxLine+2)), twoSteps, nil); err == nil {
		t.Error("read a line without end")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(stream(f, whole()...))
	f.Add([]byte(`{"kind":"end","step":1,"exit":-1,"hung":true}` + "\nrubbish\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := Parse(bytes.NewReader(data), twoSteps, nil)
		if len(rep.Steps) != len(twoSteps.Steps) {
			t.Fatalf("%d steps", len(rep.Steps))
		}
		if err == nil && len(rep.Problems(twoSteps)) == 0 && !bytes.Contains(data, []byte(KindDone)) {
			t.Errorf("passed without an end: %q", data)
		}
	})
}
