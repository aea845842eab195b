package ceiling

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadGivesEveryPolicyInOrder(t *testing.T) {
	dir := folder(t, map[string]string{"20-b.yaml": "b", "10-a.yaml": "a", "README": "no policy", ".10-a.yaml.swp": "an editor's", "10-a.yaml~": "a backup"})
	got, err := Read(dir)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []string{"a", "b"} {
		if s := got[i]; string(s.Data) != want || s.Layer != policy.LayerCeiling || filepath.Dir(s.Name) != dir {
			t.Errorf("%d: %+v", i, s)
		}
	}
	if none, err := Read(filepath.Join(dir, "none")); err != nil || none != nil {
		t.Errorf("no directory: %v, %v", none, err)
	}
}

func TestReadIgnoresNothingThatCouldBeMeant(t *testing.T) {
	for _, name := range []string{"10-a.yml", "10-a.json"} {
		if got, err := Read(folder(t, map[string]string{name: "{}"})); err == nil {
			t.Errorf("%s is passed over: %v", name, got)
		}
	}
	dir := folder(t, nil)
	if err := os.Mkdir(filepath.Join(dir, "10-a.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir); err == nil {
		t.Errorf("a directory in a policy's place: %v", got)
	}
	dir = folder(t, nil)
	if err := os.Symlink("nowhere", filepath.Join(dir, "10-a.yaml")); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir); err == nil {
		t.Errorf("a link to nothing: %v", got)
	}
	file := filepath.Join(folder(t, map[string]string{"x": ""}), "x")
	if got, err := Read(file); err == nil {
		t.Errorf("a file in the directory's place: %v", got)
	}
}
