package sallyport

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// TrustStore remembers which projects' policies the user has agreed to: by path
// and by the SHA-256 of their bytes, so that a changed file is untrusted again.
// It is below the state directory, which no sandbox sees.
type TrustStore struct{ path string }

// Trusted is one entry of the store.
type Trusted struct{ Path, SHA256 string }

// OpenTrustStore gives the caller's own store.
func OpenTrustStore() (TrustStore, error) {
	env, err := policyEnv(policy.Env{})
	return trustStore(env.StateDir), err
}

func trustStore(stateDir string) TrustStore { return TrustStore{filepath.Join(stateDir, "trust")} }

// Has reports whether these bytes at this path are trusted.
func (s TrustStore) Has(path string, data []byte) (bool, error) {
	list, err := s.List()
	return slices.Contains(list, trusted(path, data)), err
}

func trusted(path string, data []byte) Trusted {
	sum := sha256.Sum256(data)
	return Trusted{path, hex.EncodeToString(sum[:])}
}

// List gives what is trusted. A store that others can write says nothing.
func (s TrustStore) List() ([]Trusted, error) {
	info, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read trust: %w", err)
	}
	if uid, known := ownerOf(info); !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || known && uid != os.Geteuid() {
		return nil, fmt.Errorf("read trust: %s is not a file that only you can write", s.path)
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return nil, fmt.Errorf("read trust: %w", err)
	}
	var list []Trusted
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		sum, quoted, _ := strings.Cut(lines.Text(), " ")
		if path, err := strconv.Unquote(quoted); err == nil {
			list = append(list, Trusted{path, sum})
		}
	}
	return list, nil
}

// Add trusts these bytes at this path, and no others there any more.
func (s TrustStore) Add(path string, data []byte) error {
	return s.change(path, trusted(path, data))
}

// Remove trusts a path no more.
func (s TrustStore) Remove(path string) error { return s.change(path) }

func (s TrustStore) change(path string, entries ...Trusted) error {
	list, err := s.List()
	if err != nil {
		return err
	}
	list = append(slices.DeleteFunc(list, func(t Trusted) bool { return t.Path == path }), entries...)
	var out bytes.Buffer
	for _, t := range list {
		fmt.Fprintf(&out, "%s %s\n", t.SHA256, strconv.Quote(t.Path))
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), "trust-*") // 0600
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	defer os.Remove(f.Name()) // gone when it was renamed
	_, err = f.Write(out.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	if err := os.Rename(f.Name(), s.path); err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	return nil
}
