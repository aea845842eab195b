// Package matrix runs the same tests on many machines, one after the other, and
// says what came of it: to the one who waits, and as a document.
package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// Row is what one machine did.
type Row struct {
	Machine string // its name
	Kernel  string // the table's name for the kernel
	Release string
	Stock   bool   // started the usual way
	Again   string // why its first start came to nothing; empty: it did not
	NotRun  bool   // nothing is known but what it is
	Lacks   []feature.Name
	Took    time.Duration
	CPU     time.Duration // that its qemu used: what it would take on one idle processor
	Steps   []StepRow
	// Features as an ordinary user found them, and as root did.
	User, Root []feature.Result
	Problems   []report.Problem
	Bypasses   []Bypass // of vectors that were tried
}

// StepRow is what came of one test binary.
type StepRow struct {
	Name    string
	Took    time.Duration
	CPU     time.Duration // that the machine's qemu used; zero: nobody looked
	Passed  int
	Failed  int
	Broken  []string      // tests that failed or never ended
	Skipped []report.Test // with their reasons
	OK      bool
}

// Plan is what is run, and on what.
type Plan struct {
	Machines []machine.Machine
	AtOnce   int    // how many machines run side by side; they are printed as they end
	Payload  string // path of the image
	Steps    []report.Step
	Kept     Kept
	KeptOnly bool // nothing is run
}

// Run runs the steps on every machine, and gives the rows in the order of the
// machines. It goes on after failures, and fails only if a machine could not be
// run at all.
func Run(ctx context.Context, r vm.Runner, p Plan, out io.Writer) ([]Row, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	rows := make([]Row, len(p.Machines))
	next := make(chan int)
	var printing sync.Mutex
	var running sync.WaitGroup
	for range max(p.AtOnce, 1) {
		running.Go(func() {
			for i := range next {
				row, err := p.row(ctx, r, p.Machines[i])
				if err != nil {
					fail(fmt.Errorf("run %s: %w", p.Machines[i], err))
					continue
				}
				rows[i] = row
				printing.Lock()
				rows[i].Print(out)
				printing.Unlock()
			}
		})
	}
	for i := range p.Machines {
		next <- i
	}
	close(next)
	running.Wait()
	return rows, context.Cause(ctx)
}

// row runs one machine, unless it is kept, and passed.
func (p Plan) row(ctx context.Context, r vm.Runner, m machine.Machine) (Row, error) {
	kernel, err := r.Images.Kernel(m.Kernel)
	if err != nil {
		return Row{}, err
	}
	if row, ok := p.Kept.find(m, kernel.Release); ok && (p.KeptOnly || len(row.Problems) == 0) {
		return row, nil
	}
	if p.KeptOnly {
		return Row{Machine: m.String(), Kernel: m.Kernel.Name, Release: kernel.Release, Stock: m.Boot.Name == "", Lacks: m.Lacks(), NotRun: true}, nil
	}
	result, err := r.Run(ctx, m, p.Payload, p.Steps)
	again := ""
	if err == nil && result.Report.Release == "" { // it never began its job: no test has a say in that
		for _, problem := range result.Problems() {
			again = fmt.Sprintf("%s\n%s", problem, problem.Output) // the last has the console
		}
		result, err = r.Run(ctx, m, p.Payload, p.Steps)
	}
	if err != nil {
		return Row{}, err
	}
	row := rowOf(result)
	row.Again = again
	return row, p.Kept.keep(m, row)
}

// rowOf reads a result.
func rowOf(result vm.Result) Row {
	m := result.Machine
	row := Row{Machine: m.String(), Kernel: m.Kernel.Name, Release: result.Kernel.Release, Stock: m.Boot.Name == "",
		Lacks: m.Lacks(), Took: result.Took, CPU: result.CPU, Problems: result.Problems()}
	row.read(result.Job, result.Report, result.StepCPU)
	return row
}

// RowOf reads a report alone, as the machine itself sees it.
func RowOf(job report.Job, rep report.Report) Row {
	row := Row{Machine: job.Machine, Release: rep.Release, Took: rep.Took(), Problems: rep.Problems(job)}
	row.read(job, rep, nil)
	return row
}

// read sorts the outcomes of steps: surveys into features, test binaries into steps.
func (row *Row) read(job report.Job, rep report.Report, cpu []time.Duration) {
	for i, step := range job.Steps {
		switch {
		case vm.IsSurvey(step) && rep.Steps[i].Ended:
			row.readSurvey(job, step, rep.Steps[i].Output)
		case step.Tests:
			s := stepRow(step, rep, i)
			if i < len(cpu) {
				s.CPU = cpu[i]
			}
			row.Steps = append(row.Steps, s)
			row.Bypasses = append(row.Bypasses, BypassesOf(report.ParseTests(rep.Steps[i].Output))...)
		}
	}
}

// readSurvey takes in what a machine has, and complains of what it should have.
func (row *Row) readSurvey(job report.Job, step report.Step, output []byte) {
	complain := func(text string, output []byte) {
		row.Problems = append(row.Problems, report.Problem{Step: step.Name, Text: text, Output: output})
	}
	var found []feature.Result
	if err := json.Unmarshal(output, &found); err != nil {
		complain(fmt.Sprintf("read survey: %v", err), output)
		return
	}
	if step.User {
		row.User = found
	} else {
		row.Root = found
	}
	running, err := feature.ParseVersion(row.Release)
	if err != nil {
		complain(err.Error(), nil)
		return
	}
	guest := feature.ParseGuest(environment(job.Env), "")
	for _, r := range found {
		if judgement, why := feature.Judge(guest, running, r.Name, r.Err()); judgement == feature.Fail {
			complain(why, nil)
		}
	}
}

// environment looks names up in a list of NAME=VALUE.
func environment(list []string) func(string) string {
	return func(name string) string {
		for _, pair := range list {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func stepRow(step report.Step, rep report.Report, i int) StepRow {
	tests := report.ParseTests(rep.Steps[i].Output)
	s := StepRow{Name: step.Name, Took: rep.Steps[i].Took, Passed: report.Count(tests, report.Passed), Failed: report.Count(tests, report.Failed),
		OK: rep.Steps[i].Passed(step)}
	for _, t := range tests {
		switch t.Status {
		case report.Skipped:
			s.Skipped = append(s.Skipped, t)
		case report.Failed, report.Unfinished:
			s.Broken = append(s.Broken, t.Name)
		}
	}
	return s
}

// Print says what came of a machine, with the output of what failed.
func (row Row) Print(out io.Writer) {
	var passed, skipped int
	for _, s := range row.Steps {
		passed += s.Passed
		skipped += len(s.Skipped)
	}
	word := "ok  "
	if len(row.Problems) > 0 {
		word = "FAIL"
	} else if row.NotRun {
		word = "none"
	}
	fmt.Fprintf(out, "%s %-22s %-28s %6.1fs (processor %.1fs)  %d passed, %d skipped\n",
		word, row.Machine, row.Release, row.Took.Seconds(), row.CPU.Seconds(), passed, skipped)
	if row.Again != "" {
		fmt.Fprintf(out, "     was started twice; the first time: %s\n", row.Again)
	}
	for _, s := range row.Steps {
		fmt.Fprintf(out, "     %-38s %6.1fs (processor %.1fs)  %d passed, %d failed, %d skipped\n", s.Name, s.Took.Seconds(), s.CPU.Seconds(), s.Passed, s.Failed, len(s.Skipped))
	}
	for _, p := range row.Problems {
		fmt.Fprintf(out, "     %s\n", p)
		if len(p.Output) > 0 {
			fmt.Fprintf(out, "%s\n", p.Output)
		}
	}
}

// Failed counts the machines that did not pass.
func Failed(rows []Row) int {
	n := 0
	for _, r := range rows {
		if len(r.Problems) > 0 || r.NotRun {
			n++
		}
	}
	return n
}
