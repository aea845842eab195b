package seatbelt

import (
	"flag"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeMac is a file system that does not tell cases apart: links by their
// targets, and "" for directories.
type fakeMac map[string]string

func (m fakeMac) find(name string) (string, bool) {
	for p := range m {
		if strings.EqualFold(p, name) {
			return p, true
		}
	}
	return "", name == "/"
}

func (m fakeMac) Lstat(name string) (fs.FileInfo, error) {
	p, ok := m.find(name)
	switch {
	case !ok:
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	case m[p] != "":
		return nominalInfo{fs.ModeSymlink}, nil
	}
	return nominalInfo{fs.ModeDir}, nil
}

func (m fakeMac) ReadLink(name string) (string, error) {
	p, _ := m.find(name)
	return m[p], nil
}

func (m fakeMac) ReadDir(name string, _ int) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	for p := range m {
		if strings.EqualFold(path.Dir(p), name) {
			out = append(out, fakeEntry(path.Base(p)))
		}
	}
	return out, nil
}

type fakeEntry string

func (e fakeEntry) Name() string             { return string(e) }
func (fakeEntry) IsDir() bool                { return false }
func (fakeEntry) Type() fs.FileMode          { return 0 }
func (fakeEntry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

var mac = fakeMac{
	"/tmp": "private/tmp", "/var": "private/var", "/etc": "private/etc",
	"/private": "", "/private/tmp": "", "/private/var": "", "/private/etc": "",
	"/Users": "", "/Users/u": "", "/Users/u/proj": "", "/Users/u/.ssh": "", "/Users/u/Library": "",
	"/Users/u/work": "/Volumes/Work/../Work/src", "/Volumes": "", "/Volumes/Work": "", "/Volumes/Work/src": "",
	"/Users/u/proj/secret": "../.ssh", "/Users/u/proj/gone": "/nowhere/x", "/loop": "/loop2", "/loop2": "loop",
	"/System": "", "/System/Volumes": "", "/System/Volumes/Data": "", "/System/Volumes/Data/Users": "", "/data": "/System/Volumes/Data/Users",
}

func TestPathsAreNamedAsTheKernelNamesThem(t *testing.T) {
	r := resolver{mac}
	for _, tt := range []struct{ path, real, named, exists string }{
		{"/", "/", "/", "/"},
		{"/tmp", "/private/tmp", "/tmp", "/private/tmp"},
		{"/tmp/x", "/private/tmp/x", "/private/tmp/x", "/private/tmp"},
		{"/etc/passwd", "/private/etc/passwd", "/private/etc/passwd", "/private/etc"},
		{"/users/U/PROJ", "/Users/u/proj", "/Users/u/proj", "/Users/u/proj"},
		{"/users/u/.SSH/id", "/Users/u/.ssh/id", "/Users/u/.ssh/id", "/Users/u/.ssh"},
		{"/Users/u/work", "/Volumes/Work/src", "/Users/u/work", "/Volumes/Work/src"},
		{"/Users/u/work/a/b", "/Volumes/Work/src/a/b", "/Volumes/Work/src/a/b", "/Volumes/Work/src"},
		{"/Users/u/proj/secret", "/Users/u/.ssh", "/Users/u/proj/secret", "/Users/u/.ssh"},
		{"/Users/u/proj/gone", "/nowhere/x", "/Users/u/proj/gone", "/"},
		{"/data/u", "/Users/u", "/Users/u", "/Users"},
		{"/nowhere/at/all", "/nowhere/at/all", "/nowhere/at/all", "/"},
	} {
		real, err := r.real(tt.path)
		if err != nil || real.path != tt.real || real.exists != tt.exists {
			t.Errorf("%s: %+v, %v, want %s as far as %s", tt.path, real, err, tt.real, tt.exists)
		}
		if named, err := r.named(tt.path); err != nil || named.path != tt.named {
			t.Errorf("%s: named %+v, %v, want %s", tt.path, named, err, tt.named)
		}
	}
	if at, err := r.real("/loop/x"); err == nil {
		t.Errorf("a loop leads to %+v", at)
	}
}

func TestADeniedLinkIsDeniedByBothOfItsNames(t *testing.T) {
	p := macPolicy(t, "filesystem:\n  denyRead: [/Users/u/proj/secret]\n  allowWrite: [/Users/u/proj, /tmp/w]\n  allowRead: []\n")
	profile, err := Build(Input{Policy: p, FS: mac, Home: macEnv.Home, Tag: testTag})
	if err != nil {
		t.Fatal(err)
	}
	m := both(t, profile)[1]
	for p, want := range map[string]bool{"/Users/u/.ssh/id": false, "/Users/u/proj/secret": false, "/Users/u/proj/x": true} {
		if got := verdict(m, "file-read-data", p); got != want {
			t.Errorf("%s: read %v", p, got)
		}
	}
	if verdict(m, "file-write-unlink", "/Users/u/proj/secret") || !verdict(m, "file-write-data", "/private/tmp/w/x") || verdict(m, "file-write-data", "/tmp/w/x") {
		t.Error("links are not followed as they should be")
	}
}

func TestALinkDoesNotOpenItsTarget(t *testing.T) {
	p := macPolicy(t, "filesystem:\n  denyRead: [/Users/u/.ssh]\n  allowRead: [/Users/u/proj/secret]\n")
	profile, err := Build(Input{Policy: p, FS: mac, Home: macEnv.Home, Tag: testTag})
	if err != nil {
		t.Fatal(err)
	}
	if verdict(both(t, profile)[1], "file-read-data", "/Users/u/.ssh/id") {
		t.Error("an allowed link opened what it leads to")
	}
}

func TestTooManyPathsAreAnErrorAndNotFewerRules(t *testing.T) {
	var list []string
	for i := range 600 {
		list = append(list, "/Users/u/proj/"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26))
	}
	p := macPolicy(t, "filesystem: {denyRead: "+quoteAll(list)+"}\n")
	if _, err := Build(Input{Policy: p, FS: fullRoot{}, Home: "/Users/u", Tag: testTag}); err == nil || !strings.Contains(err.Error(), "path filters") {
		t.Errorf("got %v", err)
	}
	long := macPolicy(t, `filesystem: {denyRead: ["/Users/u/*`+strings.Repeat("x", maxLiteral)+`"]}`)
	if _, err := Build(Input{Policy: long, FS: fullRoot{}, Home: "/Users/u", Tag: testTag}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

func TestGoldenProfiles(t *testing.T) {
	for name, yaml := range map[string]string{
		"default": "",
		"lists": `filesystem:
  denyRead: [/Users/u/.ssh, "/Users/u/proj/**/.env*", /private/data]
  allowRead: ["/Users/u/proj/**/.env.example", /private/data/public]
  allowWrite: [/Users/u/proj, "/Users/u/out/*.log"]
  denyWrite: [/Users/u/proj/dist, "/Users/u/proj/*/lock"]
`,
		"everything": `network: {allowLocalBinding: true, allowUnixSockets: [/var/run/x.sock], allowMachLookup: [com.example.a, "com.example.b.*"]}
filesystem: {denyRead: [/], allowRead: [/System, /usr], allowGitConfig: true}
enableWeakerNetworkIsolation: true
allowAppleEvents: true
allowPty: true
`,
		"disabled": "filesystem: {disabled: true}\n",
	} {
		t.Run(name, func(t *testing.T) {
			profile, err := Build(Input{Policy: macPolicy(t, yaml+"# "+name+"\n"+emptyIf(yaml)), FS: mac, Home: macEnv.Home, Tmp: "/var/folders/zz/T/sallyport-1",
				Tag: testTag, Ports: []uint16{49152}})
			if err != nil {
				t.Fatal(err)
			}
			both(t, profile)
			file := filepath.Join("testdata", "profile_"+name+".sb")
			if *update {
				if err := os.WriteFile(file, []byte(profile.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := profile.String(); got != string(want) {
				t.Errorf("differs from %s (-update writes it anew):\n%s", file, got)
			}
		})
	}
}

// emptyIf gives a policy without rules something to be a file.
func emptyIf(yaml string) string {
	if yaml == "" {
		return "network: {}\n"
	}
	return ""
}

func TestTheSameInputGivesTheSameProfile(t *testing.T) {
	p := macPolicy(t, "network: {}\n")
	in := Input{Policy: p, FS: mac, Home: macEnv.Home, Tag: testTag, Ports: []uint16{1, 2}}
	a, err1 := Build(in)
	b, err2 := Build(in)
	if err1 != nil || err2 != nil || a.String() != b.String() || !slices.Equal(a.Args("x"), b.Args("x")) {
		t.Error(err1, err2, "two profiles of one policy differ")
	}
	if args := a.Args("echo", "-n"); args[0] != "-p" || !slices.Equal(args[len(args)-3:], []string{"--", "echo", "-n"}) {
		t.Errorf("arguments %q", args)
	}
}
