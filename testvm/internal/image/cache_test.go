package image

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestDefaultDir(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		uid  int
		want string // empty: an error
	}{
		"named":             {map[string]string{EnvCache: "/c", "XDG_CACHE_HOME": "/x"}, 0, "/c"},
		"root":              {map[string]string{"XDG_CACHE_HOME": "/x", "HOME": "/root"}, 0, "/var/cache/sallyport-testvm"},
		"user":              {map[string]string{"XDG_CACHE_HOME": "/x", "HOME": "/h"}, 1000, "/x/sallyport/testvm"},
		"user without XDG":  {map[string]string{"HOME": "/h"}, 1000, "/h/.cache/sallyport/testvm"},
		"user without home": {nil, 1000, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DefaultDir(func(k string) string { return tt.env[k] }, tt.uid)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("DefaultDir = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func writeTo(text string, count *atomic.Int32) func(string) error {
	return func(path string) error {
		count.Add(1)
		return os.WriteFile(path, []byte(text), 0o644)
	}
}

func TestMakeBuildsOnce(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	var built atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			path, err := c.Make("a/b", writeTo("whole", &built))
			if data, _ := os.ReadFile(path); err != nil || string(data) != "whole" {
				t.Errorf("Make = %q holding %q, %v", path, data, err)
			}
		}()
	}
	all.Wait()
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
}

func TestMakeLeavesNothingOfABuildThatFails(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	broken := errors.New("disk full")
	_, err := c.Make("a", func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("half"), 0o644), broken)
	})
	if !errors.Is(err, broken) || c.Has("a") {
		t.Errorf("Make = %v, has it: %t", err, c.Has("a"))
	}
	if left, _ := filepath.Glob(filepath.Join(c.Dir, "*.partial")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestMakeStartsAgainAfterAKill(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(c.Dir, "a.partial", "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	var built atomic.Int32
	if path, err := c.Make("a", writeTo("whole", &built)); err != nil || built.Load() != 1 {
		t.Errorf("Make = %q, %v", path, err)
	}
}

func TestPruneRemovesWhatNobodyUses(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	var built atomic.Int32
	for _, name := range []string{"a/used", "a/unused"} {
		path, err := c.Make(name, writeTo("x", &built))
		if err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.replace("a/choice.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Make("a/used", writeTo("x", &built)); err != nil {
		t.Fatal(err)
	}
	if err := c.Prune(time.Minute); err != nil {
		t.Fatal(err)
	}
	if !c.Has("a/used") || c.Has("a/unused") || !c.Has("a/choice.json") || c.Has("a/unused.lock") {
		t.Error("removed the wrong things")
	}
}

func TestPruneRemovesWhatKilledRunsLeft(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	for name, age := range map[string]time.Duration{"run-1": 25 * time.Hour, "work-2": time.Hour, "root": 25 * time.Hour} {
		if err := os.Mkdir(c.path(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(c.path(name), time.Now(), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Prune(time.Hour); err != nil {
		t.Fatal(err)
	}
	if c.Has("run-1") || !c.Has("work-2") || !c.Has("root") {
		t.Error("removed the wrong things")
	}
}

func TestReplaceIsWholeOrNothing(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	for _, text := range []string{"first", "second"} {
		if err := c.replace("d/a", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(c.path("d/a")); err != nil || string(data) != text {
			t.Errorf("holds %q, %v", data, err)
		}
	}
	if entries, _ := os.ReadDir(c.path("d")); len(entries) != 1 {
		t.Errorf("left %v", entries)
	}
}

func TestDigestTellsPartsApart(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{nil, {""}, {"ab"}, {"a", "b"}, {"b", "a"}, {"", "ab"}} {
		d := digest(parts...)
		if other, ok := seen[d]; ok || len(d) != 12 {
			t.Errorf("digest(%q) = %s = digest(%q)", parts, d, other)
		}
		seen[d] = parts
	}
}

func TestScriptsAreValidShell(t *testing.T) {
	for _, name := range []string{"kernel.sh", "root.sh", "box.sh", "debloat.sh", "libvirt.sh", "vagrant.sh", "plain-init", "job", "initrd-init"} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(files(name)[0]), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := output("", "sh", "-n", path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFailedScriptShowsItsLastWords(t *testing.T) {
	err := script("echo last words >&2; false; echo not reached")
	if err == nil || !contains(err.Error(), "last words") || contains(err.Error(), "not reached") {
		t.Errorf("script = %v", err)
	}
}
