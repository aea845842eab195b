package matrix

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

func TestRowsOfTheSameAreKept(t *testing.T) {
	m := machine.Machine{Kernel: machine.Linux61, Init: machine.Plain}
	k := Kept{Dir: t.TempDir(), Digest: "one"}
	failed := Row{Release: "6.1", Problems: []report.Problem{{Step: "x as root", Text: "bad", Output: []byte("why\n")}}}
	for _, row := range []Row{failed, sample()[1]} {
		if err := k.keep(m, row); err != nil {
			t.Fatal(err)
		}
		if got, ok := k.find(m, row.Release); !ok || !reflect.DeepEqual(got, row) {
			t.Errorf("found %+v, %t", got, ok)
		}
		if _, ok := k.find(m, "6.2"); ok {
			t.Error("found for another kernel")
		}
		if _, ok := (Kept{Dir: k.Dir, Digest: "two"}).find(m, row.Release); ok {
			t.Error("found for other programs")
		}
		if _, ok := (Kept{Digest: "one"}).find(m, row.Release); ok {
			t.Error("found where nothing is kept")
		}
	}
}

func TestDigestIsOfProgramsAndSteps(t *testing.T) {
	dir := t.TempDir()
	digest := func(steps ...report.Step) string {
		t.Helper()
		d, err := Digest(dir, steps)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	empty := digest()
	if digest(report.Step{Name: "x"}) == empty {
		t.Error("the steps are not in it")
	}
	write("src/docs/a.md", "words")
	if digest() != empty {
		t.Error("documents are in it")
	}
	write("src/sandbox/package.test", "1")
	one := digest()
	write("bin/sallyport", "1")
	if two := digest(); one == empty || two == one {
		t.Error("programs are not in it")
	}
}
