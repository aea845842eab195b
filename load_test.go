package sallyport

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// home makes an empty home directory with a project that is the working
// directory, and nothing of the caller's environment.
func home(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	for _, v := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(v, "")
	}
	write(t, filepath.Join(dir, "project", "x"), "")
	t.Chdir(filepath.Join(dir, "project"))
	return dir
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func allows(t *testing.T, p *policy.Policy, host string) bool {
	t.Helper()
	return p.DecideNet(policy.NetRequest{Host: policy.Host{Name: host}, Port: 443}).Allowed()
}

func TestLoadPolicyTakesTheFirstFileThatIsThere(t *testing.T) {
	dir := home(t)
	load := func(files ...string) *policy.Policy {
		t.Helper()
		p, err := LoadPolicy(LoadOptions{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := load(); allows(t, p, "a.example.com") || !p.DecideFile(event.FileWrite, filepath.Join(dir, "project/x")).Allowed() {
		t.Error("without a file it is not the built-in default")
	}
	write(t, filepath.Join(dir, ".srt-settings.json"), `{"network": {"allowedDomains": ["a.example.com"]}}`)
	if p := load(); !allows(t, p, "a.example.com") {
		t.Error("the shared settings are not read")
	}
	write(t, filepath.Join(dir, ".config/sallyport/policy.yaml"), `network: {allowedDomains: [b.example.com]}`)
	if p := load(); allows(t, p, "a.example.com") || !allows(t, p, "b.example.com") {
		t.Error("our own file does not come first")
	}
	c := write(t, filepath.Join(dir, "c.yaml"), `network: {allowedDomains: [c.example.com]}`)
	d := write(t, filepath.Join(dir, "d.yaml"), `network: {allowedDomains: [d.example.com]}`)
	if p := load(c, d); allows(t, p, "b.example.com") || !allows(t, p, "c.example.com") || !allows(t, p, "d.example.com") {
		t.Error("named files do not replace the user's, merged")
	}
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "xdg"))
	write(t, filepath.Join(dir, "xdg/sallyport/policy.yaml"), `network: {allowedDomains: [e.example.com]}`)
	if p := load(); !allows(t, p, "e.example.com") {
		t.Error("XDG_CONFIG_HOME is not heeded")
	}
	t.Setenv("XDG_CONFIG_HOME", "relative")
	if p := load(); !allows(t, p, "b.example.com") {
		t.Error("a relative XDG_CONFIG_HOME is not ignored")
	}
}

func TestLoadPolicyFailsRatherThanGoOnWithout(t *testing.T) {
	dir := home(t)
	if _, err := LoadPolicy(LoadOptions{Files: []string{filepath.Join(dir, "none.yaml")}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := LoadPolicy(LoadOptions{Files: []string{dir}}); err == nil {
		t.Error("a directory is taken for a policy")
	}
	if _, err := LoadPolicy(LoadOptions{Files: []string{"/dev/zero"}}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an endless file: %v", err)
	}
	bad := []string{write(t, filepath.Join(dir, "1.yaml"), "x: 1"), write(t, filepath.Join(dir, "2.yaml"), "")}
	var problems policy.Errors
	if _, err := LoadPolicy(LoadOptions{Files: bad}); !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("two bad files: %v", err)
	}
	// A file that cannot be looked at must not count as none.
	write(t, filepath.Join(dir, ".config/sallyport"), "in the way")
	if _, err := LoadPolicy(LoadOptions{}); err == nil {
		t.Error("a user's file that cannot be reached is passed over")
	}
}

func TestLoadPolicyNamesDirectoriesByWhereTheyAre(t *testing.T) {
	dir := home(t)
	if err := os.Symlink(filepath.Join(dir, "project"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPolicy(LoadOptions{Env: policy.Env{Cwd: filepath.Join(dir, "link")},
		Flags: policy.Flags{{Name: policy.FlagAllowDomain, Value: "a.example.com"}}})
	if err != nil {
		t.Fatal(err)
	}
	if !p.DecideFile(event.FileWrite, filepath.Join(dir, "project/x")).Allowed() {
		t.Error("the working directory behind a link is not writable where it is")
	}
	if !allows(t, p, "a.example.com") {
		t.Error("the flag is lost")
	}
	exe, _ := os.Executable()
	if d := p.DecideFile(event.FileWrite, ResolvePath(exe)); d.Allowed() || d.Rule.Name != "own-binary" {
		t.Errorf("the binary: %+v", d)
	}
}

func TestAPolicyBehindALinkIsProtectedWhereItIs(t *testing.T) {
	dir := home(t)
	target := write(t, filepath.Join(dir, "project/dotfiles/policy.yaml"), `filesystem: {allowWrite: [.]}`)
	link := filepath.Join(dir, ".srt-settings.json")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPolicy(LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, target} {
		for _, op := range []event.Operation{event.FileRead, event.FileWrite} {
			if d := p.DecideFile(op, name); d.Allowed() || d.Rule.Name != "own-policy" {
				t.Errorf("%v %s: %+v", op, name, d)
			}
		}
	}
}

func TestLoadPolicyKnowsThisHostsAddresses(t *testing.T) {
	env, err := policyEnv(policy.Env{Home: "/home/u", Cwd: "/home/u"})
	if err != nil {
		t.Fatal(err)
	}
	loopback := false
	for _, a := range env.HostAddrs {
		loopback = loopback || a.Unmap() == netip.MustParseAddr("127.0.0.1")
	}
	if !loopback {
		t.Errorf("no loopback address among %v", env.HostAddrs)
	}
}

func TestResolvePathKeepsWhatDoesNotExist(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "self")); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		dir + "/self/self/a/b": dir + "/a/b", "/": "/", "/nowhere/at/all": "/nowhere/at/all", dir + "/x/../y": dir + "/y"} {
		if got := ResolvePath(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
