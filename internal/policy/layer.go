package policy

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// Layer says whose a file is, and so what it may do.
type Layer uint8

const (
	LayerOwn     Layer = iota // the user's, or named on the command line
	LayerProject              // the working directory's: only what it narrows counts
	LayerTrusted              // the same, and the user has agreed to these very bytes
	LayerCeiling              // the administrator's: narrows whatever is below
)

var layerNames = [...]string{"own", "project", "trusted", "ceiling"}

func (l Layer) String() string {
	if int(l) < len(layerNames) {
		return layerNames[l]
	}
	return fmt.Sprintf("Layer(%d)", uint8(l))
}

// MarshalText and UnmarshalText make a layer travel by name.
func (l Layer) MarshalText() ([]byte, error) {
	if int(l) >= len(layerNames) {
		return nil, fmt.Errorf("write layer: no layer %d", l)
	}
	return []byte(l.String()), nil
}

func (l *Layer) UnmarshalText(b []byte) error {
	i := slices.Index(layerNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("read layer: no layer %s", clip(string(b)))
	}
	*l = Layer(i)
	return nil
}

func (l Layer) ofProject() bool { return l == LayerProject || l == LayerTrusted }

type ignoredKey struct {
	key  string
	rule Rule
}

// projectErrors are the keys that a file which comes with a repository must not
// give, trusted or not: they name programs, sockets, proxies and logs that are
// used outside the sandbox.
var projectErrors = []string{
	"ask.via", "audit", "mode", "git.credential", "bwrapPath", "socatPath", "ripgrep", "seccomp", "javaAgentJarPath",
	"windows.srtWin", "network.authorizer", "network.mitmProxy", "network.parentProxy", "network.httpProxyPort",
	"network.socksProxyPort", "network.tlsTerminate",
}

// untrustedIgnored are those that wait for trust even where they look like
// narrowing.
var untrustedIgnored = []string{"ignoreViolations", "credentials", "publish", "hostPorts", "env.set", "git.safeDirectories"}

// ceilingErrors are those that can narrow nothing, or are not met with what is
// below: to read them and go on would be to ignore them.
var ceilingErrors = []string{
	"ask", "git", "credentials", "ignoreViolations", "env.set", "windows", "bwrapPath", "socatPath", "ripgrep", "seccomp",
	"javaAgentJarPath", "network.mitmProxy", "network.parentProxy", "network.httpProxyPort", "network.socksProxyPort",
	"network.tlsTerminate", "network.stripResponseHeaders", "network.allowPlaintextHeaderSet",
}

// take hands a value to its field, as far as the file's layer may give it. What
// it may not is read as strictly, and dropped.
func (w *walker) take(field shape, kn, v ast.Node) {
	key, rule := w.key(), w.rule(kn)
	switch layer := w.file.layer; {
	case layer.ofProject() && slices.Contains(projectErrors, key):
		w.fail(kn, "move it to your own policy: it would act outside the sandbox, for whoever wrote this repository",
			"%s has no place in a project's policy", key)
	case layer == LayerCeiling && slices.Contains(ceilingErrors, key):
		w.fail(kn, "a ceiling says what is denied, what may be allowed at most, and what is required",
			"%s has no place in an administrator's policy", key)
	case layer == LayerProject && slices.Contains(untrustedIgnored, key):
		kept := w.file
		w.file = newFile(kept.name)
		field(w, v)
		w.file = kept
		w.file.ignored = append(w.file.ignored, ignoredKey{key, rule})
		return
	}
	w.file.keys[key] = rule
	field(w, v)
}
