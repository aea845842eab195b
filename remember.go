package sallyport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

// userFile names the file that answers for always are written to: the user's own
// policy, which is made if there is none.
func userFile(env policy.Env) (string, error) {
	names, err := userPolicy(env)
	if err != nil {
		return "", err
	}
	if len(names) > 0 {
		return ResolvePath(names[0]), nil // not a link to it
	}
	return ResolvePath(filepath.Join(env.ConfigDir, "policy.yaml")), nil
}

// remember makes an answer a rule of the user's policy.
func remember(env policy.Env, allow bool, entry string) error {
	return changeUserFile(env, func(data []byte) ([]byte, error) {
		return policy.Remember(data, entry, allow, time.Now().Format(time.DateOnly))
	})
}

// changeUserFile changes the user's policy as a whole: who reads it finds what
// was there, or what is there then. Others that change it so wait.
func changeUserFile(env policy.Env, change func([]byte) ([]byte, error)) error {
	name, err := userFile(env)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("change policy: %w", err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return fmt.Errorf("change policy: %w", err)
	}
	defer unlock()
	mode := fs.FileMode(0o600)
	var data []byte
	fi, err := os.Stat(name)
	if err == nil {
		mode = fi.Mode().Perm()
		data, err = readPolicy(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	changed, err := change(data)
	if err != nil || string(changed) == string(data) {
		return err
	}
	return replaceFile(name, changed, mode)
}

// replaceFile puts a whole file in the place of another.
func replaceFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".policy-*")
	if err != nil {
		return fmt.Errorf("change policy: %w", err)
	}
	defer os.Remove(f.Name()) // renamed: it is not there
	_, err = f.Write(data)
	for _, step := range []func() error{func() error { return f.Chmod(mode) }, f.Sync} {
		if err == nil {
			err = step()
		}
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("change policy: %w", err)
	}
	return nil
}

// rememberedRules lists what answers have put into the user's policy.
func rememberedRules(load LoadOptions) ([]Remembered, error) {
	env, err := policyEnv(load.Env)
	if err != nil {
		return nil, err
	}
	names, err := userPolicy(env)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	data, err := readPolicy(names[0])
	if err != nil {
		return nil, err
	}
	var out []Remembered
	for _, e := range policy.RememberedEntries(data) {
		r := Remembered{Rule: policy.Rule{File: names[0], Line: e.Line}.String()}
		r.Match, r.By = e.Entry, "policy"
		r.Since, _ = time.ParseInLocation(time.DateOnly, e.Date, time.Local) // of the form it was found by
		if e.Allow {
			r.Verdict = ask.Allow
		}
		out = append(out, r)
	}
	return out, nil
}

// forgetRules takes what an answer has put there out of the user's policy.
func forgetRules(load LoadOptions, match string) (n int, err error) {
	env, err := policyEnv(load.Env)
	if err != nil {
		return 0, err
	}
	if names, err := userPolicy(env); err != nil || len(names) == 0 {
		return 0, err
	}
	err = changeUserFile(env, func(data []byte) (out []byte, err error) {
		out, n, err = policy.ForgetEntry(data, match)
		return out, err
	})
	return n, err
}
