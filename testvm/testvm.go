// Package testvm lets tests say what they need of a kernel, and run on kernels
// other than the host's. Nothing but tests imports it.
//
// A test says Require(t, Landlock): outside a test VM it is skipped where the
// feature is missing; inside, a feature that the kernel is new enough for and
// that the machine was not booted without is a failure. Run starts a machine,
// which takes seconds, and builds what it starts from when it is not cached.
package testvm

import (
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// Feature names something that a kernel, or the way it was booted, gives or not.
type Feature = feature.Name

// The features that tests may require.
const (
	Userns        = feature.Userns
	Cgroup2       = feature.Cgroup2
	Delegation    = feature.Delegation
	Bwrap         = feature.Bwrap
	Landlock      = feature.Landlock
	SeccompNotify = feature.SeccompNotify
	PidfdGetfd    = feature.PidfdGetfd
	Openat2       = feature.Openat2
	CloseRange    = feature.CloseRange
	CgroupKill    = feature.CgroupKill
	CgroupLimits  = feature.CgroupLimits
	MPTCP         = feature.MPTCP
	NFTProxy      = feature.NFTProxy
	NFTLog        = feature.NFTLog
	NFTCgroup     = feature.NFTCgroup
	CgroupConnect = feature.CgroupConnect
	CgroupUnix    = feature.CgroupUnix
	RingBuffer    = feature.RingBuffer
	BPFTypedTrace = feature.BPFTypedTrace
	BPFExit       = feature.BPFExit
	BPFLSM        = feature.BPFLSM
	BPFLSMUserns  = feature.BPFLSMUserns
)

// KernelTier is what recording in the kernel takes: where all of it works, a test
// of tier trace that finds no such tier has found a fault.
var KernelTier = []Feature{CgroupConnect, RingBuffer, BPFTypedTrace}

// Kernel is one of the table's.
type Kernel = machine.Kernel

// The kernels, oldest first; Newest is whatever Debian has.
var (
	Linux510 = machine.Linux510
	Linux61  = machine.Linux61
	Linux612 = machine.Linux612
	Linux618 = machine.Linux618
	Newest   = machine.Newest
)

// Ways of starting a machine.
const (
	Plain   = machine.Plain
	Systemd = machine.Systemd
)

// Boot changes how a kernel is started. The zero value changes nothing.
type Boot = machine.Boot

// The boots.
var (
	Hybrid         = machine.Hybrid
	NoBPFLSM       = machine.NoBPFLSM
	WithBPFLSM     = machine.WithBPFLSM
	NoUserns       = machine.NoUserns
	AppArmorUserns = machine.AppArmorUserns
)

// Step is one program that a machine runs. Files of the job are below /payload.
type Step = report.Step

// Job is what a machine does before it is thrown away.
type Job struct {
	Init  machine.Init // zero: Plain
	Boot  Boot
	Files map[string]string // from name below /payload to path on the host
	Steps []Step
}

// Result says what became of a job. Problems is empty if all of it passed.
type Result = vm.Result

// Guest says which test VM this is, and what it was booted without; the zero
// value outside of one.
func Guest() (feature.Guest, error) {
	g, _, err := feature.Running()
	return g, err
}

// Require skips the test, or fails it, unless the running kernel has the features.
func Require(t testing.TB, names ...Feature) {
	t.Helper()
	guest, running, err := feature.Running()
	if err != nil {
		t.Fatalf("find out about the running system: %v", err)
	}
	for _, name := range names {
		_, probe := feature.Probe(name)
		switch judgement, why := feature.Judge(guest, running, name, probe); judgement {
		case feature.Go:
		case feature.Skip:
			t.Skip(why)
		default:
			t.Fatal(why)
		}
	}
}
