package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": main})
}

// TestScripts runs testdata/script/*.txt against the real main, each in its own
// home directory with a project in it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			for _, v := range env.Vars {
				if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "XDG_") {
					env.Setenv(name, "")
				}
			}
			env.Cd = filepath.Join(home, "project")
			return os.MkdirAll(env.Cd, 0o700)
		},
	})
}
