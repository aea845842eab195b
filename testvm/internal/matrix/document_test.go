package matrix

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

var update = flag.Bool("update", false, "rewrite golden files")

// sample is a run with everything that a document has to tell apart.
func sample() []Row {
	has := func(landlock string, lsm bool) (user, root []feature.Result) {
		user = []feature.Result{{Name: feature.Userns, OK: true, Known: true}, {Name: feature.BPFLSM, Detail: "only root can probe this"}}
		if landlock != "" {
			user = append(user, feature.Result{Name: feature.Landlock, OK: true, Known: true, Detail: landlock})
		} else {
			user = append(user, feature.Result{Name: feature.Landlock, Known: true, Detail: "ENOSYS"})
		}
		return user, []feature.Result{{Name: feature.BPFLSM, OK: lsm, Known: true}}
	}
	skips := []report.Test{{Name: "TestLandlock", Status: report.Skipped, Reason: "landlock | needs a kernel since 5.13\nthis is <5.10>"}}
	rows := []Row{
		{Machine: "5.10-plain", Kernel: "5.10", Release: "5.10.0-46", Stock: true, Lacks: []feature.Name{feature.BPFLSM},
			Steps: []StepRow{{Name: "sandbox as root", Passed: 3, Skipped: skips, OK: true}}},
		{Machine: "5.10-systemd", Kernel: "5.10", Release: "5.10.0-46", Stock: true, Lacks: []feature.Name{feature.BPFLSM},
			Steps: []StepRow{{Name: "sandbox as root", Passed: 3, Skipped: skips, OK: true}, {Name: "sandbox as user", Passed: 4, OK: true}}},
		{Machine: "6.1-plain", Kernel: "6.1", Release: "6.1.0-56", Stock: true,
			Steps:    []StepRow{{Name: "sandbox as root", Passed: 3, Failed: 1, Broken: []string{"TestBad"}}},
			Problems: []report.Problem{{Step: "sandbox as root", Text: "exit status 1"}}},
		{Machine: "6.1-plain-hybrid", Kernel: "6.1", Release: "6.1.0-56", Lacks: []feature.Name{feature.Cgroup2, feature.Delegation},
			Steps: []StepRow{{Name: "sandbox as user", Passed: 4, OK: true,
				Skipped: []report.Test{{Name: "TestCgroup", Reason: "6.1-plain-hybrid is booted without cgroup2"}}}}},
	}
	rows = append(rows, Row{Machine: "6.1-systemd", Kernel: "6.1", Release: "6.1.0-56", Stock: true, NotRun: true})
	rows[1].User, rows[1].Root = has("", false)
	rows[2].User, rows[2].Root = has("ABI 2", true)
	return rows
}

func TestDocument(t *testing.T) {
	const golden = "testdata/kernels.md"
	got := Document(sample())
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Document differs from %s (run with -update):\n%s", golden, got)
	}
}

// cells takes a Markdown table's lines apart.
func cells(lines []string) (table [][]string) {
	for _, line := range lines {
		if line, ok := strings.CutPrefix(line, "| "); ok {
			table = append(table, strings.Split(strings.TrimSuffix(line, " |"), " | "))
		}
	}
	return table
}

func column(table [][]string, n int) (column []string) {
	for _, line := range table[1:] {
		column = append(column, line[n])
	}
	return column
}

// TestKernelsDocumentIsOfTheWholeMatrix: the document that users read is what
// Document writes today, of the machines and features of today.
func TestKernelsDocumentIsOfTheWholeMatrix(t *testing.T) {
	data, err := os.ReadFile("../../../docs/kernels.md")
	if err != nil {
		t.Fatal(err)
	}
	made := strings.SplitAfter(string(Document(sample())), "\n## ")
	found := strings.SplitAfter(string(data), "\n## ")
	if len(made) != len(found) {
		t.Fatalf("%d sections, want %d", len(found), len(made))
	}
	var tables [][][]string
	for i := range made {
		before := func(s string) string { text, _, _ := strings.Cut(s, "\n|"); return text }
		if i == 0 && found[0] != made[0] || before(found[i]) != before(made[i]) {
			t.Errorf("section %d begins\n%s\nwant\n%s", i, before(found[i]), before(made[i]))
		}
		tables = append(tables, cells(strings.Split(found[i], "\n")))
	}
	features, machines, tests, failures := tables[1], tables[2], tables[3], tables[4]
	var kernels, about []string
	for _, k := range machine.Kernels {
		kernels = append(kernels, k.Name)
	}
	for _, f := range feature.All {
		about = append(about, f.About)
	}
	var names []string
	for _, m := range machine.Matrix() {
		names = append(names, m.String())
	}
	for what, pair := range map[string][2][]string{
		"kernels": {features[0][3:], kernels}, "features": {column(features, 1), about},
		"machines": {column(machines, 0), names}, "machines with tests": {column(tests, 0), names},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %q, want %q: make testvm-doc", what, pair[0], pair[1])
		}
	}
	for _, m := range machines[1:] {
		named := slices.Contains(column(failures, 0), m[0])
		if failed := m[3] == "**failed**"; failed != named || !failed && m[3] != "passed" && m[3] != "not run" {
			t.Errorf("%s: %s, among what failed: %t", m[0], m[3], named)
		}
	}
}

func TestDocumentIsTheSameEveryTime(t *testing.T) {
	first := Document(sample())
	for range 20 {
		if !bytes.Equal(first, Document(sample())) {
			t.Fatal("two documents of the same run differ")
		}
	}
}
