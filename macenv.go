package sallyport

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy"
)

// macEnviron gives the payload's environment on macOS: what the policy passes
// and sets, what the caller adds, and where the proxy and its files are.
// Nothing captures a connection that ignores the proxy: it is refused.
func macEnviron(rules policy.EnvRules, environ, extra []string, dir, tmp string, port uint16, token string) []string {
	env := map[string]string{}
	passed, _ := rules.Apply(environ)
	for _, e := range slices.Concat(passed, named(environ, extra)) {
		if name, value, _ := strings.Cut(e, "="); !rules.Withholds(name) {
			env[name] = value
		}
	}
	at := proxy.TokenUser + ":" + token + "@127.0.0.1:" + strconv.Itoa(int(port))
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		env[name], env[strings.ToLower(name)] = "http://"+at, "http://"+at
	}
	env["ALL_PROXY"], env["all_proxy"] = "socks5h://"+at, "socks5h://"+at
	env["NO_PROXY"], env["no_proxy"] = "localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1"
	env["NODE_USE_ENV_PROXY"] = "1"
	env["TMPDIR"], env["PWD"], env["SALLYPORT"] = tmp, dir, "1"
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// named gives a value to the names that come without one: the caller's.
func named(environ, extra []string) []string {
	var out []string
	for _, e := range extra {
		if strings.Contains(e, "=") {
			out = append(out, e)
			continue
		}
		for _, have := range environ {
			if strings.HasPrefix(have, e+"=") {
				out = append(out, have)
			}
		}
	}
	return out
}

// findCommand finds a command as execvp(3) would, since sandbox-exec does not
// say why it could not: 127 and 126 are what shells make of it.
func findCommand(name, dir string, env []string) (string, error) {
	fail := func(status int, err error) (string, error) {
		return "", &Error{Err: &fs.PathError{Op: "run", Path: name, Err: err}, Status: status}
	}
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(dir, name)
		}
		if err := executable(full); errors.Is(err, fs.ErrNotExist) {
			return fail(127, errors.New("no such file"))
		} else if err != nil {
			return fail(126, err)
		}
		return full, nil
	}
	found := fs.ErrNotExist
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, d := range filepath.SplitList(list) {
			if !filepath.IsAbs(d) { // an empty one is the working directory
				d = filepath.Join(dir, d)
			}
			err := executable(filepath.Join(d, name))
			if err == nil {
				return filepath.Join(d, name), nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				found = err
			}
		}
	}
	if errors.Is(found, fs.ErrNotExist) {
		return fail(127, errors.New("command not found"))
	}
	return fail(126, found)
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrPermission):
		return fs.ErrNotExist
	case err != nil:
		return fs.ErrPermission
	case info.IsDir():
		return errors.New("is a directory")
	case info.Mode()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}
