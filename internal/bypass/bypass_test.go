package bypass

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestEveryVectorHasANameAndSaysWhatIsWantedOfIt(t *testing.T) {
	name := regexp.MustCompile(`^[a-z0-9._-]+$`) // as a test's name, and in a URL
	seen, used := map[string]bool{}, map[Area]bool{}
	for _, v := range Vectors() {
		if !name.MatchString(v.ID) || seen[v.ID] || v.Text == "" {
			t.Errorf("%q, %q: not a name of its own, or nothing is said", v.ID, v.Text)
		}
		seen[v.ID], used[v.Area] = true, true
		said := 0
		for _, is := range []bool{len(v.Records) > 0 && (v.Nothing == "" || v.Records[0].From < event.TierLSM), v.Nothing != "", len(v.Held) > 0} {
			if is {
				said++
			}
		}
		if said != 1 || len(v.Try) == 0 && len(v.Held) == 0 {
			t.Errorf("%s: want one of a record, a reason for none, and tests that hold it", v.ID)
		}
		if len(v.Records) > 0 && v.Records[0].From > event.TierRootless && v.Missing == "" && v.Nothing == "" {
			t.Errorf("%s: not recorded in tier rootless, and nothing says so", v.ID)
		}
		from := event.TierNone
		for _, r := range v.Records {
			if r.From <= from || r.From > event.TierLSM || r.Op == event.OpUnknown {
				t.Errorf("%s: record %+v", v.ID, r)
			}
			from = r.From
		}
	}
	for _, a := range Areas() {
		if !used[a] {
			t.Errorf("nothing stands in %q", a)
		}
		delete(used, a)
	}
	for a := range used {
		t.Errorf("area %q is not listed", a)
	}
}

func TestTheRecordOfATierIsTheHighestThatItReaches(t *testing.T) {
	v := Vector{Records: []Record{{From: event.TierTrace, Op: event.FileRead}, {From: event.TierLSM, Op: event.FileWrite}}}
	for tier, want := range map[event.Tier]event.Operation{event.TierRootless: event.OpUnknown, event.TierTrace: event.FileRead, event.TierLSM: event.FileWrite} {
		if r, ok := v.At(tier); r.Op != want || ok != (want != event.OpUnknown) {
			t.Errorf("%s: %s, %v", tier, r.Op, ok)
		}
	}
}

func TestEveryPolicyIsOne(t *testing.T) {
	for _, p := range Policies() {
		f, err := policy.Parse(policy.Source{Name: "policy.yaml", Data: []byte(p.Text())})
		if err != nil {
			t.Errorf("%q: %v", p, err)
		} else if _, err := policy.New(policy.Env{Home: "/home/u", Cwd: "/home/u/work", ConfigDir: "/home/u/c", StateDir: "/home/u/s", CacheDir: "/home/u/x", Exe: "/x"}, f); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// The tests that are said to hold a vector are there.
func TestTheTestsThatHoldVectorsExist(t *testing.T) {
	for _, v := range Vectors() {
		for _, held := range v.Held {
			dir, test, ok := strings.Cut(held, ".")
			if !ok {
				dir, test = "internal/e2e", held
			}
			files, err := filepath.Glob("../../" + dir + "/*_test.go")
			found := false
			for _, f := range files {
				text, _ := os.ReadFile(f)
				found = found || strings.Contains(string(text), "\nfunc "+test+"(")
			}
			if err != nil || !found {
				t.Errorf("%s: there is no %s in %s: %v", v.ID, test, dir, err)
			}
		}
	}
}

// The document that users read is of the table of today.
func TestTheDocumentHasEveryVector(t *testing.T) {
	text, err := os.ReadFile("../../docs/bypasses.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := 0
	for _, section := range strings.Split(string(text), "\n## ") {
		if !strings.Contains(section, "\n| vector |") {
			continue
		}
		sections++
		var rows []string
		for line := range strings.Lines(section) {
			if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && cells[0] != "| vector" && len(cells) > 2 {
				rows = append(rows, strings.TrimPrefix(cells[0], "| ")+" "+strings.ReplaceAll(strings.ReplaceAll(cells[1], `\|`, "|"), "&lt;", "<"))
			}
		}
		var want []string
		for _, a := range Areas() {
			for _, v := range Vectors() {
				if v.Area == a {
					want = append(want, v.ID+" "+v.Text)
				}
			}
		}
		if got := strings.Join(rows, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("the document has\n%s\nthe table\n%s\nmake bypasses", got, strings.Join(want, "\n"))
		}
	}
	if sections == 0 || strings.Contains(string(text), "| **") {
		t.Errorf("%d sections; a run that failed is not for users", sections)
	}
}
