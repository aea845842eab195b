package policy

import (
	"github.com/goccy/go-yaml/ast"
)

// credentials takes what the sandbox must not know. Denied, a file is hidden
// and a variable withheld; to mask is to let the proxy put the value in later,
// which takes TLS termination.
func credentials() shape {
	variable := matching(envName, "the name of a variable")
	sigv4 := oneOf("deny", "passthrough")
	return object(map[string]shape{
		"files": list(credential(func(c *credentialValue) map[string]shape {
			return map[string]shape{"path": c.text(checkPath), "maskDuplicates": boolean}
		}, func(f *File, c credentialValue) {
			f.credentials = append(f.credentials, pathEntry{path: c.name, rule: c.rule})
		})),
		"envVars": list(credential(func(c *credentialValue) map[string]shape {
			return map[string]shape{"name": func(w *walker, n ast.Node) {
				variable(w, n)
				if s, ok := n.(*ast.StringNode); ok {
					c.name = s.Value
				}
			}}
		}, func(f *File, c credentialValue) {
			f.unset = append(f.unset, c.name)
			f.envRules["unset "+c.name] = c.rule
		})),
		"allowPlaintextInject": boolean,
		"awsPairs": list(object(map[string]shape{
			"accessKeyIdVar": variable, "secretAccessKeyVar": variable, "sessionTokenVar": variable})),
		"sigv4": object(map[string]shape{"streaming": sigv4, "presigned": sigv4, "sigv4a": sigv4}),
	})
}

// credentialValue is one entry of either list.
type credentialValue struct {
	name, mode string
	rule       Rule
}

func (c *credentialValue) text(check func(string) error) shape {
	return func(w *walker, n ast.Node) {
		checked(check)(w, n)
		if s, ok := n.(*ast.StringNode); ok {
			c.name = s.Value
		}
	}
}

// credential takes one entry, and hands it on if it is to be denied.
func credential(own func(*credentialValue) map[string]shape, deny func(*File, credentialValue)) shape {
	return func(w *walker, n ast.Node) {
		c := credentialValue{rule: w.rule(n)}
		fields := own(&c)
		for key, s := range map[string]shape{
			"mode":    choice(func(_ *File, word string, _ Rule) { c.mode = word }, "deny", "mask"),
			"extract": anyText, "onExtractNoMatch": oneOf("warn", "deny", "error"), "decode": oneOf("jwt"),
			"maskClaims": list(anyText), "injectHosts": list(host),
		} {
			fields[key] = s
		}
		before := len(w.errs)
		object(fields)(w, n)
		switch {
		case w.sketch != nil || len(w.errs) > before:
		case c.name == "" || c.mode == "":
			w.fail(n, `write {path: PATH, mode: deny}, or {name: VARIABLE, mode: deny}`, "%s: an entry needs a name and a mode", w.key())
		case c.mode == "deny":
			deny(w.file, c)
		default:
			w.file.keys[w.key()+".mask"] = c.rule
		}
	}
}
