// Package plan turns a policy and what the host can do into everything a run
// will put up: mounts, bubblewrap's arguments, environment, packet rules,
// system call filter, Landlock rules. It is pure: it performs nothing, and the
// same input gives the same plan, which prints the same way.
package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/plan/inside"
	"github.com/sallyport/sallyport/internal/policy"
)

// Capabilities are what was found out about the host before planning.
type Capabilities struct {
	Bwrap         string // absolute path of bubblewrap
	Perms         bool   // bwrap has --perms (0.5)
	DisableUserns bool   // bwrap has --disable-userns (0.8)
	LandlockABI   int    // 0: none
	// CopySockets: the supervisor may copy the payload's descriptors
	// (pidfd_getfd(2), Linux 5.6). Without it unix sockets are refused.
	CopySockets bool
}

// Input is all that a plan depends on.
type Input struct {
	Policy     *policy.Policy
	Caps       Capabilities
	FS         FS
	Argv       []string
	Cwd        string // of the payload, absolute
	Home       string
	RuntimeDir string // $XDG_RUNTIME_DIR, or empty
	Exe        string // the sallyport binary, absolute
	Environ    []string
	Root       bool // the payload is user 0
	Traced     bool // the kernel records file denials: tier trace
	// ByName: the kernel decides about names, too: tier lsm. Linked: it is told
	// where links lead now; else it knows names as the policy spells them.
	ByName, Linked bool
	// Extra adds to the environment: "NAME=VALUE", or "NAME" for the caller's.
	Extra []string
}

// Plan is what a run puts up.
type Plan struct {
	Argv     []string
	Dir      string
	Env      []string
	Mounts   []Mount
	Stubs    []Stub
	Files    []File
	Network  Network
	Seccomp  Seccomp
	Landlock Landlock
	Caps     Capabilities
	Exe      string
	Root     bool // the payload is user 0
	// RuntimeDir is made private and empty inside.
	RuntimeDir string
	// WriteRoots are the host's directories in which the payload may write.
	WriteRoots []string
	// Names are the rules that the kernel enforces by name; nil below tier lsm.
	Names *FileTable
	// Absent are those of them that are not of the policy alone.
	Absent []Absent
	// UnixSockets are those of the host that may be reached.
	UnixSockets []UnixSocket
	// Notes are for the user: entries that had no effect and why.
	Notes []string
	// NotRecorded names each class of denial that is enforced but leaves no
	// record, and why.
	NotRecorded []string

	policy *policy.Policy
	named  FileRules
}

// File is a file whose content the sandbox has of its own.
type File struct {
	Path    string
	Content string
}

// Landlock is what the payload may write (landlock(7)); reading is left to the
// mounts.
type Landlock struct {
	ABI     int
	Write   []string // everything below: write, create, remove, rename
	Devices []string // below these only opening for writing, and ioctl(2)
}

// Where things stand inside the sandbox.
const (
	InitPath  = inside.InitPath
	ProxyPath = inside.ProxyPath
	Hostname  = "sallyport"
)

// Make plans a run.
func Make(in Input) (*Plan, error) {
	if len(in.Argv) == 0 {
		return nil, fmt.Errorf("plan: no command")
	}
	m := &mounter{
		policy: in.Policy,
		rules:  in.Policy.Files(),
		r:      newResolver(in.FS),
		home:   in.Home,
		fifos:  in.Caps.LandlockABI == 0,
		perms:  in.Caps.Perms,
	}
	m.points = make(map[string]*point, len(m.rules.DenyRead)+len(m.rules.DenyWrite))
	in.RuntimeDir = m.addRuntimeDir(in.RuntimeDir)
	m.runtimeDir = in.RuntimeDir
	m.nameFiles(in)
	mounts, err := m.mounts(in.Cwd)
	if err != nil {
		return nil, fmt.Errorf("plan mounts: %w", err)
	}
	p := &Plan{
		Argv: in.Argv, Dir: in.Cwd, Caps: in.Caps, Exe: in.Exe, Root: in.Root, RuntimeDir: in.RuntimeDir,
		Mounts: mounts, Stubs: m.stubs, Notes: m.notes,
		Network: DefaultNetwork(), Absent: m.absent,
		policy: in.Policy, named: m.named,
	}
	if in.ByName {
		p.named.KeepAbsent(m.absent)
		p.Names = CompileFiles(p.named)
	}
	p.planUnix(m.unix)
	p.Files = ownFiles(m.r, mounts, &p.Notes)
	env, withheld := environment(in, p.Network)
	p.Env = env
	if len(withheld) > 0 {
		p.Notes = append(p.Notes, "withheld, because they look like secrets: "+strings.Join(withheld, " ")+" (env.pass or --env with the full name passes one)")
	}
	p.Landlock = landlockRules(in.Caps.LandlockABI, mounts)
	for _, mt := range mounts {
		if mt.Access == ReadWrite && !mt.Pin {
			p.WriteRoots = append(p.WriteRoots, mt.Path)
		}
	}
	p.NotRecorded = notRecorded(in, mounts)
	return p, nil
}

// Without takes placeholders out that could not be made, because the user may
// not write there: then the payload cannot either.
func (p *Plan) Without(stubs []string) {
	gone := func(path string) bool { return slices.Contains(stubs, path) }
	p.Stubs = slices.DeleteFunc(p.Stubs, func(s Stub) bool { return gone(s.Path) })
	p.Mounts = slices.DeleteFunc(p.Mounts, func(m Mount) bool { return gone(m.Path) })
}

func landlockRules(abi int, mounts []Mount) Landlock {
	l := Landlock{ABI: abi, Write: []string{"/tmp", "/run", "/dev/shm"}, Devices: []string{"/dev", "/proc"}}
	for _, m := range mounts {
		if m.Access == Private || m.Access == ReadWrite && !m.Pin {
			l.Write = append(l.Write, m.Path)
		}
	}
	return l
}

func notRecorded(in Input, mounts []Mount) []string {
	var list []string
	if !in.Traced {
		list = append(list, "files: what mounts, permissions and Landlock refuse (tier rootless sees no file system calls)")
	} else if !in.Caps.Perms && slices.ContainsFunc(mounts, func(m Mount) bool { return m.Access == Hidden && m.Open }) {
		list = append(list, "reads in hidden directories in which something is open, which else look empty (bubblewrap before 0.5)")
	}
	if in.Caps.LandlockABI == 0 {
		list = append(list, "writing into the host's FIFOs: without Landlock (Linux 5.13) only those up to "+
			"three directories deep in $HOME, /var, /srv and /opt are refused")
	}
	return list
}

// ownFiles gives the sandbox its own resolver configuration. A file that the
// host has not got is left out where it could not be made: libc's defaults
// (resolv.conf(5): a server on this host; nsswitch.conf(5): files, dns) lead to
// the same place.
func ownFiles(r *resolver, mounts []Mount, notes *[]string) []File {
	var out []File
	for _, f := range []File{
		{"/etc/hosts", "127.0.0.1 localhost " + Hostname + "\n::1 localhost ip6-localhost ip6-loopback\n"},
		{"/etc/resolv.conf", "nameserver 198.18.0.1\noptions timeout:5 attempts:1\n"},
		{"/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n" +
			"protocols: files\nservices: files\nethers: files\nrpc: files\n"},
	} {
		real, _, err := r.real(f.Path)
		if err != nil && privateOf(real) == "" && !hiddenAt(mounts, real) {
			*notes = append(*notes, fmt.Sprintf("%s does not exist: libc's default is used inside", f.Path))
			continue
		}
		out = append(out, File{Path: real, Content: f.Content})
	}
	return out
}

// hiddenAt reports whether a path lies in a part of the tree that starts empty.
func hiddenAt(mounts []Mount, p string) bool {
	access := ReadOnly
	for _, m := range mounts { // parents come before children
		if below(p, m.Path) {
			access = m.Access
		}
	}
	return access == Hidden
}

// String prints the plan for people and for comparison: stable, one thing a
// line.
func (p *Plan) String() string {
	var b strings.Builder
	section := func(title string, lines []string) {
		fmt.Fprintf(&b, "# %s\n", title)
		for _, l := range lines {
			fmt.Fprintf(&b, "%s\n", l)
		}
	}
	section("command", []string{quote(p.Argv), "in " + p.Dir})
	var mounts []string
	for _, m := range p.Mounts {
		mounts = append(mounts, m.String())
	}
	section("mounts", mounts)
	var stubs []string
	for _, s := range p.Stubs {
		stubs = append(stubs, fmt.Sprintf("%s (%s)", s.Path, s.Rule))
	}
	section("placeholders on the host for the run's duration", stubs)
	if p.Names != nil {
		section("names that the kernel decides about", p.named.lines())
	}
	var sockets []string
	for _, s := range p.UnixSockets {
		sockets = append(sockets, s.String())
	}
	section("unix sockets of the host", sockets)
	section("ports", p.ports())
	section("limits", p.limits())
	section("environment", envNames(p.Env))
	section("bubblewrap", []string{quote(append(append([]string{p.Caps.Bwrap}, p.BwrapArgs()...), InitPath))})
	section("landlock", []string{fmt.Sprintf("abi %d", p.Landlock.ABI), "write " + quote(p.Landlock.Write),
		"devices " + quote(p.Landlock.Devices)})
	section("nftables", []string{strings.TrimSpace(p.Network.NFTText())})
	section("seccomp", []string{strings.TrimSpace(p.Seccomp.String())})
	section("not recorded", p.NotRecorded)
	section("notes", p.Notes)
	return b.String()
}

// ports shows what is open across the boundary.
func (p *Plan) ports() (lines []string) {
	for _, r := range p.policy.Publish() {
		lines = append(lines, fmt.Sprintf("host %s -> sandbox %d (%s)", r.Host, r.Port, r.Rule))
	}
	for _, r := range p.policy.HostPorts() {
		lines = append(lines, fmt.Sprintf("sandbox %d -> host's loopback %d (%s)", r.Port, r.Port, r.Rule))
	}
	return lines
}

// limits shows what the sandbox may use.
func (p *Plan) limits() (lines []string) {
	l := p.policy.Limits()
	add := func(key string, set bool, format string, v any) {
		if set {
			lines = append(lines, fmt.Sprintf("%s "+format+" (%s)", key, v, l.Rules["limits."+key]))
		}
	}
	add("memory", l.Memory > 0, "%d bytes", l.Memory)
	add("pids", l.PIDs > 0, "%d", l.PIDs)
	add("cpu", l.CPU > 0, "%g processors", l.CPU)
	add("time", l.Time > 0, "%s", l.Time)
	return lines
}

// String shows a mount with the rule that asked for it.
func (m Mount) String() string {
	kind := m.Access.String()
	switch {
	case m.Link != "":
		kind = "link to " + m.Link
	case m.Pin:
		kind = "rw, pinned"
	case m.Open:
		kind = "hidden, passable"
	case m.Shut:
		kind = "hidden, empty"
	}
	p := m.Path
	if m.Dir && p != "/" {
		p += "/"
	}
	return fmt.Sprintf("%-16s %s (%s)", kind, p, m.Rule)
}

// envNames shows names only: values may be secrets.
func envNames(env []string) []string {
	var names []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	return []string{strings.Join(names, " ")}
}

// quote prints words so that a shell would read them back.
func quote(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if w != "" && strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%") == "" {
			out[i] = w
		} else {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}
