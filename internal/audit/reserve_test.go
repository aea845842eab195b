package audit

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAReserveHasNoName(t *testing.T) {
	dir := t.TempDir()
	stale, fresh := filepath.Join(dir, reservePrefix+"1"), filepath.Join(dir, reservePrefix+"2")
	for _, name := range []string{stale, fresh} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(stale, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	r, err := makeReserve(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	if fi, err := r.file.Stat(); err != nil || fi.Size() != reserveSize {
		t.Errorf("it holds %v bytes: %v", fi, err)
	}
	f, err := briefly(dir) // a crashed one's is removed, another's left
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if named, _ := filepath.Glob(filepath.Join(dir, reservePrefix+"*")); len(left) != 1 || len(named) != 1 || named[0] != fresh {
		t.Errorf("left: %q", left)
	}
}
