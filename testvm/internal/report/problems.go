package report

import (
	"fmt"
	"time"
)

// Problem is one reason why a job did not pass.
type Problem struct {
	Step   string // empty: the machine's
	Text   string
	Output []byte // of the step, for people
}

func (p Problem) String() string {
	if p.Step == "" {
		return p.Text
	}
	return p.Step + ": " + p.Text
}

// Problems says why a job did not pass; none if and only if all of it did.
func (rep Report) Problems(job Job) []Problem {
	var problems []Problem
	for i, step := range job.Steps {
		var got Outcome
		if i < len(rep.Steps) {
			got = rep.Steps[i]
		}
		if text := got.problem(step); text != "" {
			output := got.Output
			if step.Tests {
				output = Failures(output)
			}
			problems = append(problems, Problem{step.Name, text, output})
		}
	}
	if !rep.Done {
		problems = append(problems, Problem{Text: rep.lastSeen(job)})
	}
	if len(job.Steps) == 0 {
		problems = append(problems, Problem{Text: "the job has no steps"})
	}
	return problems
}

// Passed reports whether a step did.
func (o Outcome) Passed(step Step) bool { return o.problem(step) == "" }

// problem says why a step did not pass; empty if it did.
func (o Outcome) problem(step Step) string {
	switch {
	case !o.Started:
		return "never started"
	case !o.Ended:
		return "never ended"
	case o.Hung:
		return fmt.Sprintf("hung: killed at its deadline of %s", step.Deadline)
	case o.Error != "":
		return o.Error
	}
	if step.Tests {
		tests := ParseTests(o.Output)
		if n := Count(tests, Failed); n > 0 || o.Exit != 0 {
			return fmt.Sprintf("exit status %d, %d of %d tests failed", o.Exit, n, len(tests))
		}
		if n := Count(tests, Unfinished); n > 0 {
			return fmt.Sprintf("%d of %d tests never ended", n, len(tests))
		}
		if len(tests) == 0 {
			return "ran no test"
		}
	}
	if o.Exit != 0 {
		return fmt.Sprintf("exit status %d", o.Exit)
	}
	return ""
}

// lastSeen says how far a machine came that never reported the end of its job.
func (rep Report) lastSeen(job Job) string {
	for i, o := range rep.Steps {
		if o.Started && !o.Ended && i < len(job.Steps) {
			return fmt.Sprintf("the machine went away during %s", job.Steps[i].Name)
		}
	}
	if rep.Release == "" {
		return "the machine never began its job"
	}
	return "the machine went away between steps"
}

// Took is how long the steps took.
func (rep Report) Took() time.Duration {
	var sum time.Duration
	for _, o := range rep.Steps {
		sum += o.Took
	}
	return sum
}
