package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rootOwned makes a directory that only root could have written; the test's own
// temporary directories stand below a world-writable, but sticky, /tmp.
func rootOwned(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("takes root: files that belong to root have to be made")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

func TestOnlyAProgramThatRootAloneCanChangeIsTrusted(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(path string) error
		want    string // empty: trusted
	}{
		"root's":                        {func(string) error { return nil }, ""},
		"another user's":                {func(p string) error { return os.Chown(p, 4711, 0) }, "belongs to user 4711"},
		"the overflow user's":           {func(p string) error { return os.Chown(p, 65534, 0) }, "belongs to user 65534"},
		"writable by a group":           {func(p string) error { return os.Chmod(p, 0o775) }, "can be written by others"},
		"writable by all":               {func(p string) error { return os.Chmod(p, 0o777) }, "can be written by others"},
		"in another user's directory":   {func(p string) error { return os.Chown(filepath.Dir(p), 4711, 0) }, "belongs to user 4711"},
		"in a directory that all write": {func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, "can be written by others"},
		"in a sticky directory":         {func(p string) error { return os.Chmod(filepath.Dir(p), 0o777|os.ModeSticky) }, ""},
		"missing":                       {os.Remove, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			p := put(t, rootOwned(t)+"/d/bwrap", 0o755)
			if err := test.prepare(p); err != nil {
				t.Fatal(err)
			}
			err := trusted(p)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestFindBwrapTakesTheFirstTrusted(t *testing.T) {
	dir := rootOwned(t)
	bad, good := put(t, dir+"/bad", 0o777), put(t, dir+"/good", 0o755)
	link := dir + "/link"
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		candidates []string
		want, err  string
	}{
		"the first":          {[]string{good, bad}, good, ""},
		"missing are passed": {[]string{dir + "/none", good}, good, ""},
		"a link, resolved":   {[]string{link}, good, ""},
		"past a bad one":     {[]string{bad, good}, good, ""},
		"only a bad one":     {[]string{dir + "/none", bad}, "", "can be written by others"},
		"none":               {[]string{dir + "/none"}, "", "not at"},
	} {
		got, err := findBwrap(test.candidates)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || !strings.Contains(e.Hint, "apt-get install bubblewrap")) {
			t.Errorf("%s: no hint: %v", name, err)
		}
	}
}

func TestProbeFindsThisHostsBubblewrap(t *testing.T) {
	c, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(c.Bwrap) || !c.Perms || c.LandlockABI != LandlockABI() {
		t.Errorf("got %+v", c)
	}
}

func TestNamespaceFailuresSayWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		err error
		say string
	}{
		"a limit":   {syscall.ENOSPC, "no space left"},
		"forbidden": {syscall.EPERM, "network namespaces"},
	} {
		var e *Error
		if err := explainNamespaces(test.err); !errors.As(err, &e) || e.Hint == "" || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%s: %v, hint %q", name, err, e.Hint)
		}
	}
}

func TestBwrapHintFitsWhatItSays(t *testing.T) {
	for said, want := range map[string]string{
		"bwrap: Unknown option --perms":                              "too old",
		"bwrap: Can't find source path /x: No such file":             "a path of the policy",
		"bwrap: Can't mkdir /x: Read-only file system":               "a path of the policy",
		"bwrap: Can't create file at /x: Permission denied":          "a path of the policy",
		"bwrap: No permissions to create new namespace, likely":      namespaceHint(),
		"bwrap: setting up uid map: Permission denied":               namespaceHint(),
		"something nobody has heard of":                              "doctor",
		"bwrap: Creating new namespace failed: Resource temporarily": namespaceHint(),
	} {
		if got := bwrapHint(said); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}
