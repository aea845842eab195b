package sallyport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/keeper"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox"
)

// Doctor tries what a run needs on this machine.
func Doctor(ctx context.Context) Diagnosis {
	d := Diagnosis{}
	d.kernel()
	d.bubblewrap(ctx)
	d.namespaces()
	d.landlock()
	d.cgroup()
	d.auditLog()
	d.agent()
	k, err := findKernel(nil)
	if err != nil {
		d.add("tier trace", StateLess, err.Error(), "unset "+keeper.Env+", which is for programs that sallyport starts itself")
	}
	var reason string
	d.Tier, reason = k.tier()
	if err == nil {
		d.trace(k, d.Tier, reason)
	}
	d.limits(d.Tier >= event.TierTrace)
	if d.Tier < event.TierTrace {
		k = nil
	}
	if d.CanRun() {
		d.trial(ctx, k)
	} else {
		k.abandon()
	}
	if !d.CanRun() {
		d.Tier = event.TierNone
	}
	return d
}

func (d *Diagnosis) kernel() {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		d.add("kernel", StateMissing, "/proc is not mounted", "mount -t proc proc /proc")
		return
	}
	d.add("kernel", StateOK, "Linux "+strings.TrimSpace(string(b)), "")
}

func (d *Diagnosis) bubblewrap(ctx context.Context) {
	caps, err := sandbox.Probe()
	if err != nil {
		hint, _ := sandboxAdvice(err, 0)
		d.add("bubblewrap", StateMissing, err.Error(), hint)
		return
	}
	if caps.CopySockets {
		d.add("unix sockets", StateOK, "supervised, by path", "")
	} else {
		d.add("unix sockets", StateLess, "refused: pidfd_getfd is not to be had here",
			"boot Linux 5.6 or later, set kernel.yama.ptrace_scope below 3, let an outer container's filter pass pidfd_getfd")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, caps.Bwrap, "--version").Output()
	if err != nil {
		d.add("bubblewrap", StateMissing, fmt.Sprintf("%s --version: %v", caps.Bwrap, err), "reinstall bubblewrap")
		return
	}
	found := fmt.Sprintf("%s at %s", strings.TrimSpace(string(out)), caps.Bwrap)
	switch {
	case !caps.Perms:
		d.add("bubblewrap", StateLess, found+": hidden directories in which something is open look empty instead of refusing", "install 0.5 or later")
	case !caps.DisableUserns:
		d.add("bubblewrap", StateLess, found+": nested user namespaces are refused by seccomp alone", "install 0.8 or later")
	default:
		d.add("bubblewrap", StateOK, found, "")
	}
}

// namespaces starts a real stage 1: user and network namespaces, address,
// routes, nftables with TPROXY and NFLOG, and the proxy's sockets.
func (d *Diagnosis) namespaces() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		d.add("namespaces", StateMissing, err.Error(), "make /dev/null a device that everybody can open")
		return
	}
	defer null.Close()
	box, err := sandbox.Start(sandbox.Config{Network: plan.DefaultNetwork(), Stdin: null, Stdout: null, Stderr: null})
	if err == nil {
		defer box.Close()
		var socks *sandbox.Sockets
		if socks, err = box.Sockets(); err == nil {
			defer socks.Close()
		}
	}
	if err != nil {
		hint, _ := sandboxAdvice(err, 0)
		d.add("namespaces, nftables", StateMissing, err.Error(), hint)
		return
	}
	d.add("namespaces, nftables", StateOK, "user and network namespace, TPROXY, NFLOG, DNS", "")
	if box.NoPing != "" {
		d.add("icmp record", StateLess, box.NoPing, "make /proc/sys writable for the user namespace's owner")
	}
}

func (d *Diagnosis) landlock() {
	abi := sandbox.LandlockABI()
	d.add("landlock", landlockState(abi), landlockFound(abi), "boot Linux 6.2 or later with landlock in lsm=")
}

func landlockState(abi int) State {
	if sandbox.ConfinesFiles(abi) {
		return StateOK
	}
	return StateLess
}

// landlockFound says what an ABI of Landlock is short of.
func landlockFound(abi int) string {
	found := fmt.Sprintf("ABI %d", abi)
	if abi == 0 {
		found = "not in this kernel, or not in its lsm= list: FIFOs of the host that lie deep can be written to"
	}
	if abi == 1 {
		found += ": renaming across directories is refused (EXDEV)"
	}
	if !sandbox.ConfinesFiles(abi) {
		found += "; files as standard streams go through pipes"
	}
	return found
}

// cgroup says where cgroup v2 is; this tier does not need it.
func (d *Diagnosis) cgroup() {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		d.add("cgroup v2", StateLess, err.Error(), "mount -t proc proc /proc")
		return
	}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			d.add("cgroup v2", StateOK, "mounted at "+fields[4], "")
			return
		}
	}
	d.add("cgroup v2", StateLess, "not mounted (only tiers above rootless need it)", "mount -t cgroup2 none /sys/fs/cgroup")
}

func (d *Diagnosis) auditLog() {
	home, _ := os.UserHomeDir()
	dir := audit.Dir(os.Getenv, home)
	if dir == "" {
		d.add("audit log", StateMissing, "there is no home directory", "set HOME or XDG_STATE_HOME to a directory that you can write")
		return
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.add("audit log", StateMissing, err.Error(), "set HOME or XDG_STATE_HOME to a directory that you can write")
		return
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		d.add("audit log", StateMissing, err.Error(), "set HOME or XDG_STATE_HOME to a directory that you can write")
		return
	}
	f.Close()
	os.Remove(f.Name())
	d.add("audit log", StateOK, dir, "")
}

// trial runs /bin/true for real, canary included.
func (d *Diagnosis) trial(ctx context.Context, k *kernelSide) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	start := time.Now()
	result, err := Run(ctx, Options{kernel: k, Command: []string{"true"}, Dir: "/", Stdin: null, Stdout: null, Stderr: null})
	switch {
	case err != nil:
		var e *Error
		errors.As(err, &e)
		d.add("trial run", StateMissing, err.Error(), e.Hint)
	case result.Status != 0:
		d.add("trial run", StateMissing, fmt.Sprintf("'true' exited with %d", result.Status),
			"see what 'sallyport run -- true' says; 'true' must be a program that everybody may start")
	default:
		d.add("trial run", StateOK, fmt.Sprintf("'true' ran in %d ms; the canary reached the proxy", time.Since(start).Milliseconds()), "")
	}
}
