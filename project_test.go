package sallyport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func mustLoad(t *testing.T, o LoadOptions) *policy.Policy {
	t.Helper()
	p, err := LoadPolicy(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheCeilingHoldsOverEveryOtherLayer(t *testing.T) {
	dir := home(t)
	admin := filepath.Join(dir, "policy.d")
	name := write(t, filepath.Join(admin, "10-site.yaml"), "network: {allowedDomains: [a.example.com]}\nfilesystem: {denyRead: [/srv/secret]}")
	write(t, filepath.Join(admin, "20-more.yaml"), "network: {allowedDomains: [a.example.com, b.example.com]}")
	wide := write(t, filepath.Join(dir, "wide.yaml"), "network: {allowedDomains: [a.example.com, b.example.com, c.example.com]}\nfilesystem: {denyRead: [], disabled: true}")
	for what, o := range map[string]LoadOptions{
		"a named file": {Files: []string{wide}},
		"flags": {Flags: policy.Flags{{Name: policy.FlagAllowDomain, Value: "a.example.com"}, {Name: policy.FlagAllowDomain, Value: "b.example.com"},
			{Name: policy.FlagTemplate, Value: "code"}}},
	} {
		o.admin = admin
		p := mustLoad(t, o)
		if !allows(t, p, "a.example.com") || allows(t, p, "b.example.com") || allows(t, p, "c.example.com") || allows(t, p, "github.com") {
			t.Errorf("%s: the ceiling does not hold", what)
		}
		if d := p.DecideFile(event.FileRead, "/srv/secret/x"); d.Rule.String() != name+":2" {
			t.Errorf("%s: %+v", what, d)
		}
	}
	write(t, filepath.Join(admin, "30-bad.yaml"), "netwrk: {}")
	if _, err := LoadPolicy(LoadOptions{admin: admin}); err == nil || !strings.Contains(err.Error(), "30-bad.yaml") {
		t.Errorf("a bad ceiling: %v", err)
	}
}

func TestEveryProjectPolicyAboveIsRead(t *testing.T) {
	dir := home(t)
	write(t, filepath.Join(dir, ProjectPolicy), "filesystem: {denyRead: [top]}")
	write(t, filepath.Join(dir, "project", ProjectPolicy), "filesystem: {denyRead: [near], allowWrite: [/opt, .]}")
	sub := filepath.Join(dir, "project", "sub")
	write(t, filepath.Join(sub, "x"), "")
	t.Chdir(sub)
	p := mustLoad(t, LoadOptions{})
	for _, path := range []string{"top/x", "project/near/x"} {
		if p.DecideFile(event.FileRead, filepath.Join(dir, path)).Allowed() {
			t.Errorf("%s is not hidden", path)
		}
	}
	if p.DecideFile(event.FileWrite, "/opt/y").Allowed() {
		t.Error("an untrusted file opens what is not the project's")
	}
	named := write(t, filepath.Join(dir, "named.yaml"), "{}")
	if p := mustLoad(t, LoadOptions{Files: []string{named}}); !p.DecideFile(event.FileRead, filepath.Join(dir, "top/x")).Allowed() {
		t.Error("--policy does not replace the project's files")
	}
}

func TestAnotherUsersProjectPolicyIsIgnored(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of another user's")
	}
	dir := home(t)
	name := write(t, filepath.Join(dir, "project", ProjectPolicy), "filesystem: {denyRead: [/]}")
	if err := os.Chown(name, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	p := mustLoad(t, LoadOptions{})
	if !p.DecideFile(event.FileRead, "/etc/passwd").Allowed() {
		t.Error("it is heeded")
	}
	warned := false
	for _, w := range p.Warnings() {
		warned = warned || strings.Contains(w.Message, "belongs to user 65534")
	}
	if !warned {
		t.Error("nobody is told")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	// A link of theirs to a file of the user's is theirs.
	target := write(t, filepath.Join(dir, "mine.yaml"), "filesystem: {denyRead: [/]}")
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(name, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if p := mustLoad(t, LoadOptions{}); !p.DecideFile(event.FileRead, "/etc/passwd").Allowed() {
		t.Error("a link of another user's is followed")
	}
}

func TestTrustIsInTheVeryBytes(t *testing.T) {
	dir := home(t)
	name := write(t, filepath.Join(dir, "project", ProjectPolicy), "network: {allowedDomains: [a.example.com]}")
	store, err := OpenTrustStore()
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, want bool) {
		t.Helper()
		if got := allows(t, mustLoad(t, LoadOptions{}), "a.example.com"); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	check("at first", false)
	data, _ := os.ReadFile(name)
	if err := store.Add(name, data); err != nil {
		t.Fatal(err)
	}
	check("trusted", true)
	write(t, name, string(data)+" ")
	check("one byte more", false)
	write(t, name, string(data))
	check("as it was", true)
	other := write(t, filepath.Join(dir, "project", "sub", ProjectPolicy), string(data))
	if ok, err := store.Has(other, data); ok || err != nil {
		t.Errorf("the same bytes elsewhere: %v %v", ok, err)
	}
	if err := store.Remove(name); err != nil {
		t.Fatal(err)
	}
	check("no more", false)
}

func TestTheTrustStoreIsTheUsersAlone(t *testing.T) {
	dir := home(t)
	store, err := OpenTrustStore()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add("/x", nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".local/state/sallyport/trust")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	p := mustLoad(t, LoadOptions{})
	for _, op := range []event.Operation{event.FileRead, event.FileWrite, event.FileRename} {
		if p.DecideFile(op, path).Allowed() {
			t.Errorf("a sandbox has %s of it", op)
		}
	}
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := store.List(); err == nil {
		t.Error("one that others write is believed")
	}
}

func TestAProjectPolicyThatCannotBeReadIsNotPassedOver(t *testing.T) {
	dir := home(t)
	if err := os.Mkdir(filepath.Join(dir, "project", ProjectPolicy), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(LoadOptions{}); err == nil {
		t.Error("a directory in its place is passed over")
	}
}
