package matrix

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/feature"
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
			Steps:    []StepRow{{Name: "sandbox as root", Passed: 3, Failed: 1}},
			Problems: []report.Problem{{Text: "bad"}}},
		{Machine: "6.1-plain-hybrid", Kernel: "6.1", Release: "6.1.0-56", Lacks: []feature.Name{feature.Cgroup2, feature.Delegation},
			Steps: []StepRow{{Name: "sandbox as user", Passed: 4, OK: true,
				Skipped: []report.Test{{Name: "TestCgroup", Reason: "6.1-plain-hybrid is booted without cgroup2"}}}}},
	}
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

func TestDocumentIsTheSameEveryTime(t *testing.T) {
	first := Document(sample())
	for range 20 {
		if !bytes.Equal(first, Document(sample())) {
			t.Fatal("two documents of the same run differ")
		}
	}
}
