// Package sallyport runs a command inside a boundary that the kernel enforces,
// and keeps a record of everything that tried to cross it.
package sallyport

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/internal/ceiling"
	"github.com/sallyport/sallyport/internal/policy"
)

// AdminPolicies is the ceiling over every policy of the machine.
const AdminPolicies = ceiling.Dir

// LoadOptions say where a policy comes from.
type LoadOptions struct {
	// Files replace the user's own file and the project's; they are merged in
	// order.
	Files []string
	// Texts are policies themselves. They follow Files, and replace the user's own
	// file and the project's as these do.
	Texts []Text
	// Only leaves the user's own file and the project's out, even where no Files
	// are named.
	Only  bool
	Flags policy.Flags
	// Env is completed from the process and its environment where it is empty.
	Env policy.Env

	seen  func(policy.Source) // told of each file that is read, but for the administrator's
	admin string              // in the place of AdminPolicies
}

// Text is a policy as YAML or JSON.
type Text struct {
	Name string // for rules and messages
	Data []byte
}

// LoadPolicy reads and merges the files that apply: those named, else the
// user's own and the project's, else none, which leaves the built-in default.
// The administrator's hold over all of them. A problem in a file is a
// policy.Errors.
func LoadPolicy(opts LoadOptions) (*policy.Policy, error) {
	env, err := policyEnv(opts.Env)
	if err != nil {
		return nil, err
	}
	if opts.admin == "" {
		opts.admin = AdminPolicies
	}
	above, err := ceiling.Read(opts.admin)
	if err != nil {
		return nil, err
	}
	sources, notes, err := ownSources(opts.Files, opts.Texts, opts.Only, env)
	if err != nil {
		return nil, err
	}
	if opts.seen != nil {
		for _, s := range sources {
			opts.seen(s)
		}
	}
	return policy.Make(env, append(above, sources...), opts.Flags, notes...)
}

// ownSources gives what there is below the ceiling, but for flags.
func ownSources(files []string, texts []Text, only bool, env policy.Env) (sources []policy.Source, notes []policy.Warning, err error) {
	named := only || len(files)+len(texts) > 0
	if !named {
		if files, err = userPolicy(env); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range files {
		s, err := namedSource(name)
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, s)
	}
	for _, t := range texts {
		sources = append(sources, policy.Source{Name: t.Name, Data: t.Data})
	}
	if named {
		return sources, nil, nil
	}
	project, notes, err := projectPolicies(env)
	return append(sources, project...), notes, err
}

// userPolicy names the user's own file, if there is one.
func userPolicy(env policy.Env) ([]string, error) {
	for _, name := range []string{
		filepath.Join(env.ConfigDir, "policy.yaml"),
		filepath.Join(env.Home, ".srt-settings.json"),
	} {
		_, err := os.Stat(name)
		if err == nil {
			return []string{name}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read policy: %w", err)
		}
	}
	return nil, nil
}

func namedSource(name string) (policy.Source, error) {
	data, err := readPolicy(name)
	if err != nil {
		return policy.Source{}, err
	}
	real, err := filepath.Abs(name)
	if err != nil {
		return policy.Source{}, fmt.Errorf("find working directory: %w", err)
	}
	return policy.Source{Name: name, Data: data, Path: ResolvePath(real)}, nil
}

// readPolicy reads little more than a policy may hold: the name may be a pipe
// or a device without an end.
func readPolicy(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &Error{Err: fmt.Errorf("read policy: %w", err), Status: statusFailed,
			Hint: "name a file that exists and that you can read"}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, policy.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return data, nil
}

// policyEnv completes an Env. Directories are named by where they really are,
// because that is how the sandbox will see them.
func policyEnv(env policy.Env) (policy.Env, error) {
	var err error
	if env.Home == "" {
		if env.Home, err = os.UserHomeDir(); err != nil {
			return env, &Error{Err: fmt.Errorf("find home directory: %w", err), Status: statusFailed,
				Hint: "set HOME to a directory that you own"}
		}
	}
	if env.Cwd == "" {
		if env.Cwd, err = os.Getwd(); err != nil {
			return env, &Error{Err: fmt.Errorf("find working directory: %w", err), Status: statusFailed,
				Hint: "change to a directory that exists"}
		}
	}
	if env.Exe == "" {
		if env.Exe, err = os.Executable(); err != nil {
			return env, &Error{Err: fmt.Errorf("find own binary: %w", err), Status: statusFailed,
				Hint: "nothing works without /proc; as root: mount -t proc proc /proc"}
		}
	}
	base := func(dir *string, variable, fallback string) {
		if *dir != "" {
			return
		}
		// XDG: a relative value is invalid and ignored.
		if *dir = os.Getenv(variable); !filepath.IsAbs(*dir) {
			*dir = filepath.Join(env.Home, fallback)
		}
		*dir = filepath.Join(*dir, "sallyport")
	}
	base(&env.ConfigDir, "XDG_CONFIG_HOME", ".config")
	base(&env.StateDir, "XDG_STATE_HOME", ".local/state")
	base(&env.CacheDir, "XDG_CACHE_HOME", ".cache")
	if dir := os.Getenv("XDG_RUNTIME_DIR"); env.RuntimeDir == "" && filepath.IsAbs(dir) {
		env.RuntimeDir = dir
	}
	for _, dir := range []*string{&env.Home, &env.Cwd, &env.Exe, &env.ConfigDir, &env.StateDir,
		&env.CacheDir, &env.RuntimeDir} {
		if *dir != "" {
			*dir = ResolvePath(*dir)
		}
	}
	if env.HostAddrs == nil {
		env.HostAddrs, err = hostAddrs()
	}
	return env, err
}

// hostAddrs lists the addresses of this host's interfaces.
func hostAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, &Error{Err: fmt.Errorf("list this host's addresses: %w", err), Status: statusFailed,
			Hint: "the kernel, or what confines this process, must allow NETLINK_ROUTE sockets"}
	}
	addrs := []netip.Addr{}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs, nil
}

// ResolvePath follows the links of an absolute path as far as it exists; what
// does not exist yet is kept as it is.
func ResolvePath(path string) string {
	path = filepath.Clean(path)
	for dir, rest := path, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return path
		}
	}
}

// UserPolicy names the file that holds the user's own policy, if there is one.
func UserPolicy() (string, error) {
	env, err := policyEnv(policy.Env{})
	return filepath.Join(env.ConfigDir, "policy.yaml"), err
}
