package seatbelt

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

// world makes policies and paths of few names, so that they meet.
type world struct{ *rand.Rand }

var (
	worldDirs  = []string{"/Users/u/proj", "/Users/u", "/Users/u/proj/sub", "/private/opt/w", "/private/opt", "/", "/Users/u/project"}
	worldNames = []string{"a", "b", "sub", "secrets", ".env", ".git", "hooks", "config", ".bashrc", ".GIT", "k.pem", "new", "é", "info", "modules"}
	worldParts = []string{"*", "a*", "*.pem", "?", "[ab]", "s*s", ".*", "[a-c]", "??", "se*"}
)

const worldTmp = "/private/var/folders/zz/T/sallyport-1"

func pick[T any](w world, list []T) T { return list[w.IntN(len(list))] }

func (w world) path() string {
	p := pick(w, append(worldDirs, worldTmp))
	for range w.IntN(5) {
		p = strings.TrimSuffix(p, "/") + "/" + pick(w, worldNames)
	}
	return p
}

// entry is a name or a pattern; deep patterns have one name after **/.
func (w world) entry(deep bool) string {
	p := pick(w, worldDirs)
	for range w.IntN(3) {
		p = strings.TrimSuffix(p, "/") + "/" + pick(w, worldNames)
	}
	switch w.IntN(4) {
	case 0:
		p = strings.TrimSuffix(p, "/") + "/" + pick(w, worldParts)
		if w.IntN(3) == 0 {
			p += "/" + pick(w, append(worldNames, worldParts...))
		}
	case 1:
		if deep {
			p = strings.TrimSuffix(p, "/") + "/**/" + pick(w, append(worldNames, "*.pem", ".e*"))
			if w.IntN(4) == 0 {
				p += "/" + pick(w, worldNames)
			}
		}
	}
	if i := strings.IndexAny(p, "*?["); i >= 0 && !isASCII(p[strings.LastIndexByte(p[:i], '/'):]) {
		return w.entry(deep) // only names can have more
	}
	return p
}

func (w world) list(most int, deep bool) []string {
	out := []string{}
	for range w.IntN(most + 1) {
		out = append(out, w.entry(deep))
	}
	return out
}

// policy makes one; with exact, none whose permissions to read match at any
// depth, which a profile refuses more of than the policy.
func (w world) policy(t testing.TB, exact bool) (*policy.Policy, string) {
	yaml := fmt.Sprintf("filesystem:\n  denyRead: %s\n  allowRead: %s\n  allowWrite: %s\n  denyWrite: %s\n",
		quoteAll(w.list(3, true)), quoteAll(w.list(2, !exact)), quoteAll(append(w.list(2, true), "/Users/u/proj")), quoteAll(w.list(2, true)))
	if w.IntN(12) == 0 {
		yaml += "  disabled: true\n"
	}
	if w.IntN(8) == 0 {
		yaml += "  allowGitConfig: true\n"
	}
	return macPolicy(t, yaml), yaml
}

func quoteAll(list []string) string {
	for i, s := range list {
		list[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// fullRoot is a Mac on which every path exists, and none is a link.
type fullRoot struct{ NominalRoot }

func (fullRoot) Lstat(string) (fs.FileInfo, error) { return nominalInfo{fs.ModeDir}, nil }

func build(t testing.TB, p *policy.Policy) *Profile {
	t.Helper()
	profile, err := Build(Input{Policy: p, FS: fullRoot{}, Home: macEnv.Home, Tmp: worldTmp, Tag: testTag, Ports: []uint16{8443}})
	if err != nil {
		t.Fatal(err)
	}
	return profile
}

// both are the machines whose engines see bytes and characters.
func both(t testing.TB, p *Profile) [2]*machine {
	t.Helper()
	chars, err := newMachine(p, false)
	if err != nil {
		t.Fatalf("%v\n%s", err, p)
	}
	bytes := *chars
	bytes.bytes = true
	return [2]*machine{&bytes, chars}
}
