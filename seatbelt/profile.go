package seatbelt

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
)

// RuleMove is the rule of what keeps protected names from being moved away.
const RuleMove = "seatbelt-move"

// Input is all that a profile depends on.
type Input struct {
	Policy *policy.Policy
	FS     plan.FS
	Home   string
	// Tmp is a directory of the run's own, which may be written; empty: none.
	Tmp string
	// Tag becomes the message of every denial.
	Tag string
	// Ports of the proxy on this host's loopback.
	Ports []uint16
}

// Profile is what sandbox-exec(1) is given.
type Profile struct {
	Text   string
	Params []Param
}

// Build makes the profile of a policy. The same input gives the same profile.
//
// Wherever two rules speak of one operation on one path, the verdict is the
// same whether the last rule that matches decides, or the last with a filter on
// the most special operation: the kernel's way is not documented.
func Build(in Input) (*Profile, error) {
	if !validTag(in.Tag) {
		return nil, fmt.Errorf("make profile: bad tag %q", in.Tag)
	}
	w := newWriter(in.Tag)
	f := &files{w: w, r: resolver{in.FS}, rules: in.Policy.Files(), home: in.Home}
	if in.Tmp != "" {
		at, err := f.r.real(in.Tmp)
		if err != nil {
			return nil, fmt.Errorf("make profile: %w", err)
		}
		f.tmp = at.path
	}
	if err := f.prepare(); err != nil {
		return nil, fmt.Errorf("make profile: %w", err)
	}
	mac := in.Policy.Mac()
	f.pty = mac.PTY
	w.line("(version 1)")
	w.line("(deny default " + w.message() + ")")
	basics(w, mac)
	network(w, mac, in.Ports)
	if err := unixSockets(w, f.r, mac); err != nil {
		return nil, fmt.Errorf("make profile: %w", err)
	}
	if mac.AllUnixSockets || len(mac.UnixSockets) > 0 {
		f.finals("network-bind network-outbound") // our own sockets start programs
	}
	f.read()
	f.write()
	if mac.PTY {
		terminals(w)
	}
	text, err := w.finish()
	if err != nil {
		return nil, fmt.Errorf("make profile: %w", err)
	}
	return &Profile{Text: text, Params: w.params}, nil
}

// basics are what every program needs.
func basics(w *writer, mac policy.MacRules) {
	w.allowAll("process-exec* process-fork")
	w.allow("process-info* signal mach-priv-task-port", "(target same-sandbox)")
	w.allowAll("user-preference-read")
	w.allowAll("ipc-posix-shm ipc-posix-sem")
	w.allow("sysctl-read", append(named(w, "sysctl-name", sysctls), named(w, "sysctl-name-prefix", sysctlPrefixes)...)...)
	w.allow("sysctl-write", named(w, "sysctl-name", sysctlWrites)...)
	services := named(w, "global-name", machServices)
	if mac.Trustd {
		services = append(services, named(w, "global-name", []string{TrustdService})...)
	}
	if mac.AppleEvents {
		w.allowAll("appleevent-send lsopen")
		services = append(services, named(w, "global-name", appleEventServices)...)
	}
	for _, m := range mac.MachLookup {
		kind := "global-name"
		if m.Prefix {
			kind = "global-name-prefix"
		}
		services = append(services, named(w, kind, []string{m.Name})...)
	}
	w.allow("mach-lookup", services...)
	w.allow("iokit-open", `(iokit-registry-entry-class "RootDomainUserClient")`)
	w.allowAll("iokit-get-properties")
	w.allow("system-socket", allOf("(socket-domain AF_SYSTEM)", "(socket-protocol 2)"))
	w.allow("file-ioctl", devicePaths(w, ioctlDevices)...)
}

func named(w *writer, filter string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "(" + filter + " " + w.quote(n) + ")"
	}
	return out
}

func devicePaths(w *writer, paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = "(literal " + w.quote(p) + ")"
	}
	return out
}

// network opens the way to the proxy, and listening where the policy does. A
// (local ip …) on network-outbound would admit every destination.
func network(w *writer, mac policy.MacRules, ports []uint16) {
	for _, p := range ports {
		w.allow("network-outbound", "(remote ip "+w.quote("localhost:"+strconv.Itoa(int(p)))+")")
	}
	if mac.LocalBinding { // sockets for both families are ::ffff:127.0.0.1, which localhost is not
		w.allow("network-bind network-inbound", `(local ip "*:*")`)
	}
}

func unixSockets(w *writer, r resolver, mac policy.MacRules) error {
	if mac.AllUnixSockets {
		w.allow("system-socket", "(socket-domain AF_UNIX)")
		w.allow("network-bind network-outbound", `(subpath "/")`)
		return nil
	}
	if len(mac.UnixSockets) == 0 {
		return nil
	}
	w.allow("system-socket", "(socket-domain AF_UNIX)")
	var paths []string
	for _, s := range mac.UnixSockets {
		at, err := r.real(s.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Rule, err)
		}
		if at.path == "/" {
			return fmt.Errorf("%s: %w", s.Rule, errors.New("/ is every socket: say allowAllUnixSockets"))
		}
		paths = append(paths, w.subpath(at.path))
	}
	w.allow("network-bind network-outbound", paths...)
	return nil
}

// terminals lets a program make terminals of its own.
func terminals(w *writer) {
	w.allowAll("pseudo-tty")
	w.allow("file-ioctl", `(literal "/dev/ptmx")`, "(regex "+w.quote(ttyRegex)+")")
}

// Args are the arguments of sandbox-exec for a command.
func (p *Profile) Args(command ...string) []string {
	args := []string{"-p", p.Text}
	for _, v := range p.Params {
		args = append(args, "-D"+v.Name+"="+v.Value)
	}
	return append(append(args, "--"), command...)
}

// String prints the profile and its parameters for people and for comparison.
func (p *Profile) String() string {
	var b strings.Builder
	b.WriteString(p.Text)
	for _, v := range p.Params {
		fmt.Fprintf(&b, "; %s=%s\n", v.Name, v.Value)
	}
	return b.String()
}
