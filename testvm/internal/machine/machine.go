// Package machine is the table of test VMs: which kernels, how they are started,
// what each is expected to lack. It is data and pure functions on it.
package machine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/testvm/internal/feature"
)

// Kernel is a kernel of the matrix: the newest cloud kernel of a series that a
// Debian suite carries. It is never pinned.
type Kernel struct {
	Name   string
	Suite  string
	Series string         // empty: the newest of the suite
	Lacks  []feature.Name // what Debian leaves out, though the version has it
}

// The kernels of the matrix, oldest first.
var (
	// Debian 11 leaves bpf out of CONFIG_LSM, and CONFIG_MPTCP out altogether.
	Linux510 = Kernel{Name: "5.10", Suite: "bullseye", Series: "5.10", Lacks: []feature.Name{feature.BPFLSM, feature.MPTCP}}
	Linux61  = Kernel{Name: "6.1", Suite: "bookworm", Series: "6.1"}
	Linux612 = Kernel{Name: "6.12", Suite: "trixie", Series: "6.12"}
	Linux618 = Kernel{Name: "6.18", Suite: "trixie-backports", Series: "6.18"}
	Newest   = Kernel{Name: "newest", Suite: "trixie-backports"}
)

// Kernels is the table.
var Kernels = []Kernel{Linux510, Linux61, Linux612, Linux618, Newest}

// Init says what the first process of a machine is. The zero value is invalid.
type Init uint8

const (
	Plain   Init = iota + 1 // a few mounts, then the job: no manager, no session
	Systemd                 // a whole system, and a session of the ordinary user
)

func (i Init) String() string {
	switch i {
	case Plain:
		return "plain"
	case Systemd:
		return "systemd"
	}
	return fmt.Sprintf("init(%d)", uint8(i))
}

// Boot is a way of starting a kernel that differs from the stock one.
type Boot struct {
	Name     string
	Params   string         // appended to the kernel's command line
	Lacks    []feature.Name // what it takes away
	Gives    []feature.Name // what it adds
	UserWrap []string       // what starts an ordinary user's programs
	UserOnly bool           // root's programs prove nothing here
	Packages []string       // whose tests prove something here; empty: all
}

// The ways of booting.
var (
	Stock  = Boot{}
	Hybrid = Boot{Name: "hybrid", Params: "systemd.unified_cgroup_hierarchy=0",
		Lacks: []feature.Name{feature.Cgroup2, feature.CgroupLimits, feature.Delegation}, Packages: kernelTier}
	NoBPFLSM = Boot{Name: "nobpflsm", Params: "lsm=landlock,lockdown,yama,integrity,apparmor",
		Lacks: []feature.Name{feature.BPFLSM, feature.BPFLSMUserns}, Packages: kernelTier}
	WithBPFLSM = Boot{Name: "bpflsm", Params: "lsm=lockdown,yama,integrity,apparmor,bpf",
		Gives: []feature.Name{feature.BPFLSM}}
	NoUserns = Boot{Name: "nouserns", Params: "sysctl.kernel.unprivileged_userns_clone=0",
		Lacks: []feature.Name{feature.Userns, feature.Bwrap}, Packages: noRun}
	// AppArmorUserns grants user namespaces and takes their capabilities away, as
	// Ubuntu does since 23.10; here by a profile for what an ordinary user starts.
	AppArmorUserns = Boot{Name: "apparmor", Lacks: []feature.Name{feature.Userns, feature.Bwrap},
		UserWrap: []string{"aa-exec", "-p", "testvm-nocaps", "--"}, UserOnly: true, Packages: noRun}
)

// Packages whose tests prove something where nothing runs in a sandbox, and where
// only what the kernel tier finds differs: cgroups elsewhere, no LSM.
var (
	noRun      = []string{"testvm/selftest"}
	kernelTier = []string{"testvm/selftest", "loader", "internal/cgroup", "internal/keeper", "internal/e2e"}
)

// Boots is the table.
var Boots = []Boot{Stock, Hybrid, NoBPFLSM, WithBPFLSM, NoUserns, AppArmorUserns}

// Machine is a kernel with its way of starting.
type Machine struct {
	Kernel Kernel
	Init   Init
	Boot   Boot
}

func (m Machine) String() string {
	name := m.Kernel.Name + "-" + m.Init.String()
	if m.Boot.Name != "" {
		name += "-" + m.Boot.Name
	}
	return name
}

// Lacks lists the features the machine is without on purpose.
func (m Machine) Lacks() []feature.Name {
	var lacks []feature.Name
	all := slices.Concat(m.Kernel.Lacks, m.Boot.Lacks)
	if m.Init == Plain {
		all = append(all, feature.Delegation)
	}
	for _, name := range all {
		if !slices.Contains(m.Boot.Gives, name) && !slices.Contains(lacks, name) {
			lacks = append(lacks, name)
		}
	}
	return lacks
}

// Guest is what the machine says of itself inside.
func (m Machine) Guest() feature.Guest {
	return feature.Guest{Machine: m.String(), Without: m.Lacks()}
}

// Matrix is every machine that the whole matrix runs.
func Matrix() []Machine {
	var all []Machine
	for _, k := range Kernels {
		all = append(all, Machine{k, Plain, Stock}, Machine{k, Systemd, Stock})
	}
	return append(all,
		Machine{Linux61, Plain, Hybrid}, Machine{Linux61, Systemd, Hybrid},
		Machine{Linux61, Plain, NoBPFLSM},
		Machine{Linux61, Plain, NoUserns}, Machine{Linux61, Plain, AppArmorUserns})
}

// CI is the few machines that every change runs on.
func CI() []Machine {
	return []Machine{{Linux61, Plain, Stock}, {Linux612, Plain, Stock}}
}

// KernelsOf lists the kernels of machines, each once.
func KernelsOf(machines []Machine) []Kernel {
	var kernels []Kernel
	seen := map[string]bool{}
	for _, m := range machines {
		if !seen[m.Kernel.Name] {
			seen[m.Kernel.Name] = true
			kernels = append(kernels, m.Kernel)
		}
	}
	return kernels
}

// Parse reads a machine's name, as String writes it.
func Parse(name string) (Machine, error) {
	for _, k := range Kernels {
		for _, init := range []Init{Plain, Systemd} {
			for _, b := range Boots {
				if m := (Machine{k, init, b}); m.String() == name {
					return m, nil
				}
			}
		}
	}
	return Machine{}, fmt.Errorf("no machine %q: want KERNEL-INIT or KERNEL-INIT-BOOT, kernels %s, inits plain and systemd, boots %s",
		name, kernelNames(), bootNames())
}

func kernelNames() string {
	var names []string
	for _, k := range Kernels {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

func bootNames() string {
	var names []string
	for _, b := range Boots {
		if b.Name != "" {
			names = append(names, b.Name)
		}
	}
	return strings.Join(names, ", ")
}
