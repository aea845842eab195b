package sallyport

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/internal/policy"
)

// hostFS is the running system's file system, as a plan looks at it.
type hostFS struct{}

func (hostFS) Lstat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }
func (hostFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (hostFS) ReadLink(name string) (string, error)       { return os.Readlink(name) }

// policyEnv looks up what a policy depends on: the user's directories and this
// host's addresses.
func policyEnv(dir string) (policy.Env, error) {
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return policy.Env{}, &Error{Err: fmt.Errorf("find the home directory: $HOME is %q", home), Status: statusFailed,
			Hint: "set HOME to a directory of yours"}
	}
	if dir == "" {
		if dir, err = os.Getwd(); err != nil {
			return policy.Env{}, fmt.Errorf("find the working directory: %w", err)
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return policy.Env{}, fmt.Errorf("find the working directory: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return policy.Env{}, fmt.Errorf("find this program: %w", err)
	}
	return policy.Env{
		Home: filepath.Clean(home), Cwd: dir, Exe: exe,
		ConfigDir:  xdgDir("XDG_CONFIG_HOME", home, ".config"),
		StateDir:   xdgDir("XDG_STATE_HOME", home, ".local/state"),
		CacheDir:   xdgDir("XDG_CACHE_HOME", home, ".cache"),
		RuntimeDir: runtimeDir(),
		HostAddrs:  hostAddrs(),
	}, nil
}

// xdgDir gives sallyport's directory below an XDG base directory; a relative
// one is ignored, as the specification asks.
func xdgDir(variable, home, fallback string) string {
	base := os.Getenv(variable)
	if !filepath.IsAbs(base) {
		base = filepath.Join(home, fallback)
	}
	return filepath.Join(base, "sallyport")
}

// runtimeDir is $XDG_RUNTIME_DIR, if that is a directory.
func runtimeDir() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if fi, err := os.Stat(dir); !filepath.IsAbs(dir) || err != nil || !fi.IsDir() {
		return ""
	}
	return filepath.Clean(dir)
}

// hostAddrs lists this host's own addresses: a name that resolves to one is a
// way to the host's services.
func hostAddrs() []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the special ranges are refused all the same
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	return out
}

// newID names a run: 48 random bits in hex.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
