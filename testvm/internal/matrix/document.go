package matrix

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

const preamble = `# Kernels

Written by ` + "`make testvm-doc`" + ` from a run of the whole matrix in virtual machines; not
edited by hand. Kernels are Debian's, the newest of each series, as they come; user
space is Debian 12's. A feature is there if it worked when it was tried, never
because of a version: see ` + "`testvm/internal/feature`" + `. Of some packages only those tests
are run that a kernel can break: see ` + "`testvm/internal/vm/selection.go`" + `.
`

// Document says what the machines of a run have, and what the tests did on them.
// It holds no times, so that two runs that found the same give the same text.
func Document(rows []Row) []byte {
	var b bytes.Buffer
	b.WriteString(preamble)
	b.WriteString("\n## Features\n\nEach kernel as Debian starts it, with systemd. Those marked * only root can use.\n\n")
	writeFeatures(&b, stockRows(rows))
	b.WriteString("\n## Machines\n\n")
	writeMachines(&b, rows)
	b.WriteString("\n## Tests\n\nPassed/failed/skipped; tests count with their subtests. A plain\nmachine runs most packages as root, one with systemd in an ordinary user's session.\n\n")
	writeTests(&b, rows)
	b.WriteString("\n## Failed tests\n\nThose that failed, or had not ended when their time was over.\n\n")
	writeFailures(&b, rows)
	b.WriteString("\n## Skipped tests\n\n")
	writeSkips(&b, rows)
	return b.Bytes()
}

// stockRows gives one row a kernel: its last stock one, which has a session.
func stockRows(rows []Row) []Row {
	var kernels []Row
	for _, r := range rows {
		switch last := len(kernels) - 1; {
		case !r.Stock:
		case last >= 0 && kernels[last].Kernel == r.Kernel:
			if !r.NotRun {
				kernels[last] = r
			}
		default:
			kernels = append(kernels, r)
		}
	}
	return kernels
}

func writeFeatures(b *bytes.Buffer, rows []Row) {
	head := []string{"feature", "", "since"}
	for _, r := range rows {
		head = append(head, r.Kernel)
	}
	table := [][]string{head}
	for _, f := range feature.All {
		name := string(f.Name)
		if f.Root {
			name += " *"
		}
		line := []string{name, f.About, f.Since.String()}
		for _, r := range rows {
			line = append(line, r.cell(f))
		}
		table = append(table, line)
	}
	writeTable(b, table)
}

// cell says whether a machine has a feature, for whoever can use it.
func (row Row) cell(f feature.Feature) string {
	found := row.User
	if f.Root {
		found = row.Root
	}
	for _, r := range found {
		switch {
		case r.Name != f.Name:
		case !r.Known:
			return "?"
		case !r.OK:
			return "no"
		case r.Detail != "":
			return r.Detail
		default:
			return "yes"
		}
	}
	return "?"
}

func writeMachines(b *bytes.Buffer, rows []Row) {
	table := [][]string{{"machine", "kernel", "started without", "result"}}
	for _, r := range rows {
		result := "passed"
		if len(r.Problems) > 0 {
			result = "**failed**"
		} else if r.NotRun {
			result = "not run"
		}
		var lacks []string
		for _, name := range r.Lacks {
			lacks = append(lacks, string(name))
		}
		table = append(table, []string{r.Machine, r.Release, strings.Join(lacks, ", "), result})
	}
	writeTable(b, table)
}

func writeTests(b *bytes.Buffer, rows []Row) {
	var steps []string
	seen := map[string]bool{}
	for _, r := range rows {
		for _, s := range r.Steps {
			if !seen[s.Name] {
				seen[s.Name] = true
				steps = append(steps, s.Name)
			}
		}
	}
	table := [][]string{append([]string{"machine"}, steps...)}
	for _, r := range rows {
		line := []string{r.Machine}
		for _, name := range steps {
			line = append(line, r.tests(name))
		}
		table = append(table, line)
	}
	writeTable(b, table)
}

func (row Row) tests(name string) string {
	for _, s := range row.Steps {
		if s.Name != name {
			continue
		}
		text := fmt.Sprintf("%d/%d/%d", s.Passed, s.Failed, len(s.Skipped))
		if !s.OK {
			text = "**" + text + "**"
		}
		return text
	}
	return ""
}

// writeFailures lists each problem of a machine, and the tests behind it.
func writeFailures(b *bytes.Buffer, rows []Row) {
	table := [][]string{{"machine", "step", "problem", "tests"}}
	for _, r := range rows {
		for _, p := range r.Problems {
			broken := []string{}
			for _, s := range r.Steps {
				if s.Name == p.Step {
					broken = append(broken, s.Broken...)
				}
			}
			table = append(table, []string{r.Machine, p.Step, p.Text, strings.Join(broken, ", ")})
		}
	}
	writeTable(b, table)
}

// writeSkips lists the reasons, each with the machines that gave it.
func writeSkips(b *bytes.Buffer, rows []Row) {
	type skip struct{ step, test, reason string }
	machines := map[skip][]string{}
	for _, r := range rows {
		for _, s := range r.Steps {
			for _, t := range s.Skipped {
				k := skip{s.Name, t.Name, generalise(t, r)}
				machines[k] = append(machines[k], r.Machine)
			}
		}
	}
	lines := [][]string{}
	for k, on := range machines {
		where := strings.Join(on, ", ")
		if len(on) == len(rows) {
			where = "all"
		}
		lines = append(lines, []string{k.step, k.test, k.reason, where})
	}
	sort.Slice(lines, func(i, j int) bool { return strings.Join(lines[i], "\x00") < strings.Join(lines[j], "\x00") })
	writeTable(b, append([][]string{{"step", "test", "because", "machines"}}, lines...))
}

// generalise takes the machine out of a reason, so that equal ones meet.
func generalise(t report.Test, r Row) string {
	return strings.ReplaceAll(t.Reason, r.Machine, "the machine")
}

// writeTable writes a Markdown table; its first line is the head.
func writeTable(b *bytes.Buffer, lines [][]string) {
	escape := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;")
	for i, line := range lines {
		for j := range line {
			line[j] = escape.Replace(line[j])
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(line)))
		}
	}
}
