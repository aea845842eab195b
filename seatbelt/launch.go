package seatbelt

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// defaultCheck bounds a preflight; a compiler that hangs is a compiler that
// failed.
const defaultCheck = 10 * time.Second

// applyFailed is how sandbox-exec exits when it cannot enter a sandbox: EX_OSERR
// (sysexits.h), as it does inside of another.
const applyFailed = 71

// ErrProfile: sandbox-exec does not take the profile.
var ErrProfile = errors.New("the profile does not compile")

// Command is what runs a command under the profile. Its words are sandbox-exec's
// own: no shell reads them.
func (p *Profile) Command(argv ...string) (path string, args []string) {
	return sandboxExec, p.Args(argv...)
}

// Preflight tries whether a sandbox can be entered here, whatever the version
// of the system says, and then whether the profile compiles.
func Preflight(e Exec, p *Profile, limit time.Duration) error {
	limit = orDefault(limit, defaultCheck)
	open := &Profile{Text: "(version 1)(allow default)"}
	if err := try(e, open, limit); err != nil {
		return fmt.Errorf("enter a sandbox: %w", err)
	}
	if p == nil {
		return nil
	}
	if err := try(e, p, limit); err != nil {
		return fmt.Errorf("enter the run's sandbox: %w", err)
	}
	return nil
}

// try runs /usr/bin/true under a profile.
func try(e Exec, p *Profile, limit time.Duration) error {
	path, args := p.Command(trueProgram)
	child, err := e.Start(Command{Path: path, Args: args, Env: plainEnv})
	if err != nil {
		return &Error{Err: err, Hint: "sandbox-exec is part of macOS: nothing else may stand in its place"}
	}
	code, err := waitWithin(child, limit)
	said := strings.TrimSpace(child.Errors())
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", sandboxExec, err)
	case code == applyFailed:
		return &Error{Err: fmt.Errorf("%w: %s", ErrInSandbox, said), Hint: "run sallyport outside of any other sandbox"}
	case code != 0:
		return &Error{Err: fmt.Errorf("%w: %s exited with %d: %s", ErrProfile, sandboxExec, code, said),
			Hint: "look at the profile: sallyport policy show --platform darwin"}
	}
	return nil
}
