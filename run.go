package sallyport

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// runEnv completes what a policy knows of the user and the run.
func runEnv(o *Options) (policy.Env, error) {
	env := o.Policy.Env
	if o.Dir != "" {
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			return env, fmt.Errorf("find the working directory: %w", err)
		}
		env.Cwd = dir
	}
	return policyEnv(env)
}

func (o *Options) setDefaults() {
	for _, f := range []struct{ p, d **os.File }{{&o.Stdin, &os.Stdin}, {&o.Stdout, &os.Stdout}, {&o.Stderr, &os.Stderr}} {
		if *f.p == nil {
			*f.p = *f.d
		}
	}
}

// checkBuilt refuses a policy that asks for more than this version enforces on
// this system: the missing keys.
func checkBuilt(p *policy.Policy, missing []policy.Unbuilt, warn func(message, hint string)) error {
	for _, u := range missing {
		if u.Refuse {
			return &Error{Err: fmt.Errorf("%s: %s is not supported yet, and a run without it would be less safe", u.Rule, u.Key),
				Hint: u.Note, Status: statusFailed}
		}
	}
	for _, w := range p.Warnings() {
		if warn != nil {
			warn(w.Message, w.Hint)
		}
	}
	return nil
}

func noLog(err error) error {
	hint, status := sandboxAdvice(err, statusFailed) // a limit of the caller's
	if hint == "" {
		hint = "set HOME or XDG_STATE_HOME to a directory that you can write; nothing runs without a record"
	}
	return &Error{Err: fmt.Errorf("open the audit log: %w", err), Status: status, Hint: hint}
}

// ignores reports whether the policy says that a denial is not to be shown.
func ignores(p *policy.Policy, command []string, e event.Event) bool {
	return p.Ignores(strings.Join(command, " "), audit.Violation(e.Operation, e.Object, e.Reason, e.Detail))
}

func suggest(p *policy.Policy, e event.Event) string {
	if e.Operation == event.UnixConnect {
		return p.DecideUnix(string(e.Object.Path)).Fix
	}
	if isFile(e.Operation) && (e.Layer == event.LayerTrace || e.Layer == event.LayerLSM) {
		return suggestFile(p, e)
	}
	host := string(e.Object.Host)
	if host == "" {
		host = e.Object.Addr
	}
	h, err := policy.ParseHost(host)
	if err != nil {
		return ""
	}
	var d policy.Decision
	switch e.Operation {
	case event.NetConnect:
		req := policy.NetRequest{Host: h, Port: e.Object.Port}
		d = p.DecideNet(req)
		if addr, err := netip.ParseAddr(e.Object.Addr); err == nil && d.Allowed() && e.Reason == event.AddressDenied {
			d = p.DecideResolved(req, addr)
		}
	case event.NetDNS:
		d = p.DecideName(h)
	}
	if d.Allowed() { // not refused for want of a rule
		return ""
	}
	return d.Fix
}
