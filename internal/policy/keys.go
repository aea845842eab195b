package policy

import (
	"sort"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"
)

// grammar is the whole policy file: the shared settings keys and our own. What
// is not built yet is still read strictly; unbuilt.go says what a run makes of
// it. homes maps the last part of every key to the whole keys it ends.
type grammar struct {
	root  shape
	homes map[string][]string
}

var (
	keysOnce sync.Once
	keysMade grammar
)

// keys makes the grammar when the first file is parsed: the stages of a run
// start from the same binary and parse none.
func keys() grammar {
	keysOnce.Do(func() { keysMade = makeKeys() })
	return keysMade
}

func makeKeys() grammar {
	top := map[string]shape{
		"network":                      network(),
		"filesystem":                   filesystem(),
		"mandatoryDenySearchDepth":     integer(1, 10, func(f *File, n int, _ Rule) { f.scanDepth = &n }),
		"credentials":                  credentials(),
		"ignoreViolations":             record(ignoredViolation),
		"enableWeakerNestedSandbox":    boolean,
		"allowNestedUserNamespaces":    boolean,
		"enableWeakerNetworkIsolation": boolean,
		"allowAppleEvents":             boolean,
		"allowPty":                     boolean,
		"bwrapPath":                    matching(absolute, "an absolute path"),
		"socatPath":                    matching(absolute, "an absolute path"),
		"javaAgentJarPath":             matching(absolute, "an absolute path"),
		"ripgrep": object(map[string]shape{
			"command": anyText, "args": list(anyText), "argv0": anyText}),
		"seccomp": object(map[string]shape{"applyPath": anyText, "argv0": anyText}),
		"windows": windows(),
		"git":     git(),

		"require": object(map[string]shape{
			"tier": choice(setTier, "rootless", "trace", "lsm"),
			"audit": flag(func(f *File, b bool, r Rule) {
				f.require.Audit, f.require.AuditRule = b, r
			}),
		}),
		"env": object(map[string]shape{
			"pass":  list(envEntry("pass", func(f *File) *[]string { return &f.pass })),
			"unset": list(envEntry("unset", func(f *File) *[]string { return &f.unset })),
			"set":   record(setVariable),
		}),
		"ask":       askKeys(),
		"limits":    limits(),
		"publish":   list(publishEntry),
		"hostPorts": list(hostPort),
		"mode":      mode(),
		"audit":     auditKeys(),
	}
	g := grammar{root: object(top), homes: map[string][]string{}}
	for _, k := range sharedKeys {
		last := k[strings.LastIndexByte(k, '.')+1:]
		g.homes[last] = append(g.homes[last], k[:max(0, len(k)-len(last)-1)])
	}
	return g
}

// sharedKeys are keys that people put in the wrong place.
var sharedKeys = []string{
	"network.allowedDomains", "network.deniedDomains", "network.deniedDomainReasons",
	"network.strictAllowlist", "network.allowUnixSockets", "network.parentProxy",
	"network.rules", "network.tlsTerminate", "network.deniedResolvedAddresses",
	"filesystem.denyRead", "filesystem.allowRead", "filesystem.allowWrite",
	"filesystem.denyWrite", "filesystem.allowGitConfig", "filesystem.disabled",
	"env.pass", "env.set", "env.unset", "require.tier", "ask.via", "ask.timeout", "network.authorizer",
	"limits.memory", "limits.pids", "limits.cpu", "limits.time",
}

func homesOf(key string) string {
	homes := keys().homes[key]
	sort.Strings(homes)
	return strings.Join(homes, " or ")
}

func filesystem() shape {
	return object(map[string]shape{
		"disabled":       flag(func(f *File, b bool, _ Rule) { f.disabled = &b }),
		"denyRead":       pathList(func(f *File) **[]pathEntry { return &f.denyRead }),
		"allowRead":      pathList(func(f *File) **[]pathEntry { return &f.allowRead }),
		"allowWrite":     pathList(func(f *File) **[]pathEntry { return &f.allowWrite }),
		"denyWrite":      pathList(func(f *File) **[]pathEntry { return &f.denyWrite }),
		"allowGitConfig": flag(func(f *File, b bool, _ Rule) { f.gitConfig = &b }),
	})
}

// pathList takes a list of paths: text, or {path, literal: true}.
func pathList(where func(*File) **[]pathEntry) shape {
	return func(w *walker, n ast.Node) {
		if seq, ok := n.(*ast.SequenceNode); ok {
			room := make([]pathEntry, 0, w.entries(seq))
			*where(w.file) = &room
		}
		list(func(w *walker, n ast.Node) {
			if w.eitherSketch(anyText, func(w *walker, n ast.Node) { markedPath(w, n, &pathEntry{}) }) {
				return
			}
			e := pathEntry{rule: w.rule(n)}
			switch n.(type) {
			case *ast.MappingNode, *ast.MappingValueNode:
				marked := e // alone on the heap
				if !markedPath(w, n, &marked) {
					return
				}
				e = marked
			default:
				s, ok := w.text(n)
				if !ok {
					return
				}
				e.path = s
			}
			if err := checkPath(e.path); err != nil {
				w.fail(n, hintOf(err), "%v", err)
				return
			}
			dst := *where(w.file)
			*dst = append(*dst, e)
		})(w, n)
	}
}

// markedPath takes {path: P, literal: true}: P is a name, whatever is in it.
func markedPath(w *walker, n ast.Node, e *pathEntry) bool {
	before := len(w.errs)
	fields := map[string]shape{
		"path": func(w *walker, n ast.Node) { e.path, _ = w.text(n) },
		"literal": func(w *walker, n ast.Node) {
			if w.sketched(sketch{"enum": []bool{true}}) {
				return
			}
			b, ok := n.(*ast.BoolNode)
			e.literal = ok && b.Value
			if !e.literal {
				w.fail(n, "write the path alone where it is a pattern", "literal can only be true")
			}
		},
	}
	object(fields)(w, n)
	if len(w.errs) > before {
		return false
	}
	if e.path == "" || !e.literal {
		w.fail(n, "write {path: PATH, literal: true}, or the path alone", "a path needs both path and literal")
		return false
	}
	return true
}

func envEntry(key string, where func(*File) *[]string) shape {
	return func(w *walker, n ast.Node) {
		if w.sketched(sketch{"type": "string", "pattern": envPattern.text}) {
			return
		}
		s, ok := w.text(n)
		if !ok {
			return
		}
		if !envPattern.MatchString(s) {
			w.fail(n, "a name such as GOPATH, or a prefix such as LC_*",
				"%s is not the name of a variable", clip(s))
			return
		}
		dst := where(w.file)
		*dst = append(*dst, s)
		w.file.envRules[key+" "+s] = w.rule(n)
	}
}

func setVariable(w *walker, key string, kn, v ast.Node) {
	if !envName.MatchString(key) {
		w.fail(kn, "", "%s is not the name of a variable", clip(key))
		return
	}
	w.file.envRules["set "+key] = w.rule(kn)
	if s, isText := v.(*ast.StringNode); isText && s.Value == "" {
		w.file.set[key] = ""
		return
	}
	if s, ok := w.text(v); ok {
		if strings.ContainsRune(s, 0) {
			w.fail(v, "", "NUL in the value of %s", key)
			return
		}
		w.file.set[key] = s
	}
}
