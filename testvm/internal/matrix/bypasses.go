package matrix

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/bypass"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// Bypass is what came of one vector of internal/bypass.
type Bypass struct {
	Vector string
	How    string // the test: who started sallyport
	Tier   string
	Result string
}

// Hows are the tests that make the table's attempts, as documents name them.
var hows = []struct{ test, title string }{
	{"TestBypass", "An ordinary user alone"},
	{"TestBypassAsRoot", "Started by root, for an ordinary user"},
	{"TestBypassWithAnAgent", "An ordinary user, where the machine has an agent"},
}

// BypassesOf reads what tests say of vectors. One that failed did so whatever it says.
func BypassesOf(tests []report.Test) (list []Bypass) {
	for _, t := range tests {
		how, vector, ok := strings.Cut(t.Name, "/")
		if !ok || !strings.HasPrefix(how, hows[0].test) {
			continue
		}
		tier, result, _ := strings.Cut(t.Said(bypass.Prefix), ": ")
		switch t.Status {
		case report.Failed:
			result = "**failed**"
		case report.Unfinished:
			result = "**unfinished**"
		}
		list = append(list, Bypass{vector, how, tier, result})
	}
	return list
}

const bypassPreamble = `# Ways around

Written by ` + "`make bypasses`" + ` from what came of the attempts; not edited by hand. The
vectors are ` + "`internal/bypass`" + `, and ` + "`TestBypass`" + ` in ` + "`internal/e2e`" + ` makes them: each by a
process of its own, under a kernel as Debian ships it. Each was refused, and nothing arrived
outside: a vector that was not would say **failed**.

- *recorded*: and it is in the record, once, with the process that tried, by its number, its
  program and the process that started it. In tier rootless the process behind a
  refused packet is looked for afterwards, and named if it is still there.
- *not recorded*: refused; that this tier does not record it is said by the run and by ` + "`sallyport doctor`" + `.
- *nothing there*: what is tried does not exist inside, so there is nothing to refuse.
- *held*: it takes more than one attempt, and has tests of its own.
- *n*: it could not be tried there; the numbers are explained below.
`

// bypassColumn is one machine in one tier.
type bypassColumn struct {
	title string
	cells map[string]string
}

// BypassDocument says what came of every vector on every machine.
func BypassDocument(rows []Row) []byte {
	var b bytes.Buffer
	b.WriteString(bypassPreamble)
	notes := notes{}
	for _, how := range hows {
		var columns []bypassColumn
		for _, r := range rows {
			columns = append(columns, r.column(how.test, &notes)...)
		}
		if len(columns) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n", how.title)
		for _, area := range bypass.Areas() {
			fmt.Fprintf(&b, "\n### %s\n\n", area)
			writeTable(&b, areaTable(area, columns))
		}
	}
	b.WriteString("\n## What could not be tried\n\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	return b.Bytes()
}

func areaTable(area bypass.Area, columns []bypassColumn) [][]string {
	head := []string{"vector", ""}
	for _, c := range columns {
		head = append(head, c.title)
	}
	table := [][]string{head}
	for _, v := range bypass.Vectors() {
		if v.Area != area {
			continue
		}
		line := []string{v.ID, v.Text}
		for _, c := range columns {
			line = append(line, c.cells[v.ID])
		}
		table = append(table, line)
	}
	return table
}

// column is what a machine did in one of the ways, if it did.
func (row Row) column(how string, n *notes) []bypassColumn {
	c := bypassColumn{cells: map[string]string{}}
	for _, b := range row.Bypasses {
		if b.How == how {
			c.title = row.Kernel + " " + b.Tier
			c.cells[b.Vector] = n.short(b.Result)
		}
	}
	if len(c.cells) == 0 {
		return nil
	}
	return []bypassColumn{c}
}

// notes are the reasons why vectors could not be tried, in the order they are met.
type notes []string

// short is a result in a cell.
func (n *notes) short(result string) string {
	if why, ok := strings.CutPrefix(result, bypass.CannotTry); ok {
		for i, known := range *n {
			if known == why {
				return fmt.Sprint(i + 1)
			}
		}
		*n = append(*n, why)
		return fmt.Sprint(len(*n))
	}
	if strings.HasPrefix(result, bypass.HeldBy) {
		return "held"
	}
	return result
}
