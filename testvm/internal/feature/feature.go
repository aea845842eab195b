// Package feature names what sallyport asks of a kernel, since which version
// the kernel has it, and how to find out whether the running one does.
//
// The table is data and known on every system; probing is Linux's, and probes by
// doing: a version or a list read from /sys proves nothing.
package feature

import (
	"errors"
	"fmt"
	"strings"
)

// Name is a feature's name, as documents and command lines write it.
type Name string

const (
	Userns        Name = "userns"
	Cgroup2       Name = "cgroup2"
	Delegation    Name = "delegation"
	Bwrap         Name = "bwrap"
	Landlock      Name = "landlock"
	SeccompNotify Name = "seccomp-notify"
	PidfdGetfd    Name = "pidfd-getfd"
	Openat2       Name = "openat2"
	CloseRange    Name = "close-range"
	CgroupKill    Name = "cgroup-kill"
	CgroupLimits  Name = "cgroup-limits"
	MPTCP         Name = "mptcp"
	NFTProxy      Name = "nft-tproxy"
	NFTLog        Name = "nft-log"
	NFTCgroup     Name = "nft-cgroup"
	CgroupConnect Name = "cgroup-connect"
	CgroupUnix    Name = "cgroup-connect-unix"
	RingBuffer    Name = "bpf-ringbuf"
	BPFTypedTrace Name = "bpf-tp-btf"
	BPFExit       Name = "bpf-fexit"
	BPFLSM        Name = "bpf-lsm"
	BPFLSMUserns  Name = "bpf-lsm-userns"
)

// Feature is one row of the table.
type Feature struct {
	Name  Name
	Since Version // the first kernel that has it; the zero Version: every one
	Root  bool    // only root can find out
	About string
}

// All is the table, in the order documents show it.
var All = []Feature{
	{Name: Userns, Since: Version{3, 8}, About: "an ordinary user makes a user namespace and has power in it"},
	{Name: Cgroup2, Since: Version{4, 5}, About: "cgroup v2 is mounted at /sys/fs/cgroup"},
	{Name: Delegation, Since: Version{4, 5}, About: "the user's service manager delegates a cgroup v2 subtree"},
	{Name: Bwrap, Since: Version{3, 8}, About: "bubblewrap starts a program for an ordinary user"},
	{Name: Landlock, Since: Version{5, 13}, About: "Landlock, with its ABI"},
	{Name: SeccompNotify, Since: Version{5, 0}, About: "seccomp answers system calls through a notification"},
	{Name: PidfdGetfd, Since: Version{5, 6}, About: "pidfd_getfd(2)"},
	{Name: Openat2, Since: Version{5, 6}, About: "openat2(2) with RESOLVE_IN_ROOT"},
	{Name: CloseRange, Since: Version{5, 9}, About: "close_range(2)"},
	{Name: CgroupKill, Since: Version{5, 14}, Root: true, About: "cgroup.kill"},
	{Name: CgroupLimits, Since: Version{4, 15}, About: "cgroup v2 has the controllers memory, pids and cpu"},
	{Name: MPTCP, Since: Version{5, 6}, About: "MPTCP sockets"},
	{Name: NFTProxy, Since: Version{4, 19}, About: "nftables: tproxy, IPv4 and IPv6"},
	{Name: NFTLog, Since: Version{3, 17}, About: "nftables: log to a netlink group"},
	{Name: NFTCgroup, Since: Version{5, 13}, Root: true, About: "nftables: socket cgroupv2"},
	{Name: CgroupConnect, Since: Version{4, 17}, Root: true, About: "BPF at a cgroup's connect4"},
	{Name: CgroupUnix, Since: Version{6, 7}, Root: true, About: "BPF at a cgroup's connect_unix"},
	{Name: RingBuffer, Since: Version{5, 8}, Root: true, About: "BPF ring buffer"},
	{Name: BPFTypedTrace, Since: Version{5, 5}, Root: true, About: "BPF at a tracepoint, with types, shown by a hit"},
	{Name: BPFExit, Since: Version{5, 5}, Root: true, About: "BPF at a kernel function's exit, shown by a hit"},
	{Name: BPFLSM, Since: Version{5, 7}, Root: true, About: "BPF LSM, shown by a refusal"},
	{Name: BPFLSMUserns, Since: Version{6, 1}, Root: true, About: "BPF LSM at userns_create"},
}

// Find returns the row of a name.
func Find(name Name) (Feature, bool) {
	for _, f := range All {
		if f.Name == name {
			return f, true
		}
	}
	return Feature{}, false
}

// ErrMissing says that the running system conclusively lacks a feature, as
// opposed to a probe that could not be carried out.
var ErrMissing = errors.New("not there")

// ErrNeedsRoot says that only root can find out.
var ErrNeedsRoot = errors.New("only root can probe this")

// missing is the conclusive answer no.
func missing(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMissing}, args...)...)
}

// Result is what one probe found.
type Result struct {
	Name      Name   `json:"name"`
	OK        bool   `json:"ok"`
	Known     bool   `json:"known"`                // false: the probe could not tell
	NeedsRoot bool   `json:"needs_root,omitempty"` // because it was not root's
	Detail    string `json:"detail,omitempty"`     // a version, or why not
}

// Err is the error that the probe ended in.
func (r Result) Err() error {
	switch {
	case r.OK:
		return nil
	case r.Known:
		return fmt.Errorf("%w: %s", ErrMissing, r.Detail)
	case r.NeedsRoot:
		return ErrNeedsRoot
	}
	return errors.New(r.Detail)
}

// Survey probes every feature.
func Survey() []Result {
	results := make([]Result, 0, len(All))
	for _, f := range All {
		results = append(results, resultOf(f.Name, Probe))
	}
	return results
}

func resultOf(name Name, probe func(Name) (string, error)) Result {
	detail, err := probe(name)
	r := Result{Name: name, OK: err == nil, Known: err == nil || errors.Is(err, ErrMissing),
		NeedsRoot: errors.Is(err, ErrNeedsRoot), Detail: detail}
	if err != nil {
		r.Detail = strings.TrimPrefix(err.Error(), ErrMissing.Error()+": ")
	}
	return r
}
