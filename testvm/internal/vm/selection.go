package vm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// Selection says which tests are run, and for how long.
type Selection struct {
	Packages []string      // patterns
	Deadline time.Duration // of one package
	Short    bool          // -test.short
	Only     string        // of each package these, as root, and nothing else
	All      bool          // those too that a kernel has no say in, and as both users everywhere
}

// part is what is run of a package's tests, as one user, in one step. Without KVM a
// program starts thirty times as slowly, and the kernel verifies as much more
// slowly what is loaded into it: what a kernel has no say in is left to the host
// (protocols, decisions, programs, wording), and so is more of the same.
type part struct {
	user   bool         // an ordinary one, not root
	on     report.Place // where; empty: everywhere
	kernel string       // the only one; empty: any
	as     string       // in the step's name, where a user has several parts
	env    []string
	files  []string // patterns: all tests of these files
	only   []string // regular expressions, for subtests too; with files: nothing else is run
	not    []string // regular expressions; left out
}

// name is a step's name: JobFor reads the folder out of it.
func (p part) name(rel string) string {
	if rel == "." {
		rel = "sallyport"
	}
	name := rel + " as root"
	if p.user {
		name = rel + " as user"
	}
	return name + p.as
}

// whole is all of a package's tests, as both users.
var whole = []part{{}, {user: true}}

// parts are those of a package, by its folder.
func (sel Selection) parts(rel string) []part {
	if sel.Only != "" {
		return []part{{only: []string{sel.Only}}}
	}
	if ps, ok := table[rel]; ok && !sel.All {
		return ps
	}
	return whole
}

// flags select the tests of a package, whose folder is dir.
func (p part) flags(dir string) ([]string, error) {
	only := append([]string(nil), p.only...)
	for _, name := range p.files {
		files, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("list files of %s: %w", dir, err)
		}
		for _, path := range files {
			tests, err := testsIn(path)
			if err != nil {
				return nil, fmt.Errorf("list tests of %s: %w", dir, err)
			}
			only = append(only, tests...)
		}
	}
	var flags []string
	if len(only) > 0 {
		flags = append(flags, "-test.run="+pattern(only))
	}
	if len(p.not) > 0 {
		flags = append(flags, "-test.skip="+pattern(p.not))
	}
	return flags, nil
}

// testsIn lists the tests and fuzz targets of a file.
func testsIn(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Recv == nil && f.Name.Name != "TestMain" && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
			names = append(names, f.Name.Name)
		}
	}
	return names, nil
}

// pattern matches whole names: alternatives stand outermost, and each part of a
// name between slashes is an expression of its own (go help testflag).
func pattern(names []string) string {
	each := make([]string, len(names))
	for i, name := range names {
		each[i] = "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	}
	return strings.Join(each, "|")
}
