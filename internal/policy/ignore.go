package policy

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// ignored is one part of ignoreViolations: what is not shown of a command.
type ignored struct {
	command string // part of it; "*": of every command
	objects []string
}

// Ignores reports whether a denial is not to be shown: the line that tells of
// it holds one of the texts that are listed for the command, or for "*". It is
// recorded and counted all the same.
func (p *Policy) Ignores(command, line string) bool {
	for _, i := range p.ignores {
		if i.command != "*" && !strings.Contains(command, i.command) {
			continue
		}
		for _, o := range i.objects {
			if strings.Contains(line, o) {
				return true
			}
		}
	}
	return false
}

func ignoredViolation(w *walker, key string, _, v ast.Node) {
	i := ignored{command: key}
	list(func(w *walker, n ast.Node) {
		if s, ok := w.text(n); ok {
			i.objects = append(i.objects, s)
		}
	})(w, v)
	w.file.ignores = append(w.file.ignores, i)
}
