package sallyport

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/scope"
)

// cgroupLimits are those of a policy's limits that a cgroup enforces.
func cgroupLimits(l policy.Limits) cgroup.Limits {
	return cgroup.Limits{Memory: l.Memory, PIDs: l.Tasks(), CPU: l.CPU}
}

// scopeLimit is how long the user's service manager may take.
const scopeLimit = 20 * time.Second

// limit bounds what the sandbox may use, where it has no cgroup of its own yet:
// by a scope of the user's service manager.
func (r *run) limit() error {
	l := r.prep.policy.Limits()
	if r.kernel != nil || !l.Cgroup() {
		return nil
	}
	pid, pidfd, err := r.box.Stage1()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	name := "sallyport-" + r.id + ".scope"
	if err := scope.Start(userBus(os.Getenv, os.Getuid()), name, pid, scope.Limits{Memory: l.Memory, Tasks: l.Tasks(), CPU: l.CPU}, scopeLimit); err != nil {
		return noLimit(l, err)
	}
	if err := awaitLimits(pid, name, cgroupLimits(l)); err != nil {
		return noLimit(l, err)
	}
	return nil
}

// awaitLimits returns when a process is in a scope and the kernel keeps its
// limits: a manager promises to, also where it has no controller to do it with.
func awaitLimits(pid int, name string, l cgroup.Limits) error {
	for end := time.Now().Add(scopeLimit); ; time.Sleep(5 * time.Millisecond) {
		dir, err := cgroup.Of(pid)
		if err == nil && filepath.Base(dir) != name {
			err = fmt.Errorf("%s was not made in time", name)
		} else if err == nil {
			err = cgroup.Limited(dir, l)
		}
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// userBus is the address of the user's message bus (sd-bus's own order).
func userBus(getenv func(string) string, uid int) string {
	if a := getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" {
		return a
	}
	dir := getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", uid)
	}
	return "unix:path=" + dir + "/bus"
}

// noLimit says that what was asked for cannot be had: nothing runs without it.
func noLimit(l policy.Limits, err error) error {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(l.Rules)) {
		if key != "limits.time" {
			keys = append(keys, fmt.Sprintf("%s (%s)", key, l.Rules[key]))
		}
	}
	return &Error{Err: fmt.Errorf("enforce %s: %w", strings.Join(keys, ", "), err), Status: statusFailed, Hint: limitsHint}
}

const limitsHint = "memory, pids and cpu take cgroup v2 with these controllers (not systemd.unified_cgroup_hierarchy=0 nor cgroup_disable=), and root, the machine's agent or a systemd user manager (log in, or 'loginctl enable-linger')"

// limits says whether a policy's limits could be enforced: by what holds the
// kernel's programs, or by the user's own service manager.
func (d *Diagnosis) limits(kernel bool) {
	dir, err := cgroup.Mount()
	if err == nil && !kernel {
		dir, err = managerGroup(dir)
	}
	var have []byte
	if err == nil {
		have, err = os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	}
	if err != nil {
		d.add("limits", StateLess, "a policy's limits but that of time are refused: "+err.Error(), limitsHint)
		return
	}
	state, found := limitsFound(dir, string(have))
	d.add("limits", state, found, limitsHint)
}

// managerGroup is where a service manager of the user's, which must answer, makes
// its scopes.
func managerGroup(mount string) (string, error) {
	uid := os.Getuid()
	if err := scope.Ask(userBus(os.Getenv, uid), scopeLimit); err != nil {
		return "", err
	}
	return filepath.Join(mount, fmt.Sprintf("user.slice/user-%d.slice/user@%d.service", uid, uid)), nil
}

// limitsFound says what controllers are short of.
func limitsFound(dir, controllers string) (State, string) {
	var lacking []string
	for _, c := range []string{"memory", "pids", "cpu"} {
		if !slices.Contains(strings.Fields(controllers), c) {
			lacking = append(lacking, c)
		}
	}
	if len(lacking) == 0 {
		return StateOK, "memory, pids and cpu can be bounded"
	}
	return StateLess, fmt.Sprintf("a policy's limits on %s are refused: cgroup v2 has no such controller at %s (version 1 may have it)",
		strings.Join(lacking, ", "), dir)
}
