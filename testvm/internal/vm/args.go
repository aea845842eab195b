// Package vm runs jobs in test VMs: it starts qemu, follows what the machine
// reports, kills what stalls, and never leaves a qemu behind.
package vm

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/testvm/internal/guest"
	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
)

// Accel is how qemu executes a machine's instructions.
type Accel string

const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// config is everything that qemu's command line says.
type config struct {
	accel   Accel
	kernel  image.Kernel
	params  string
	disks   []disk // vda, vdb, ...
	console string // path
}

// disk is a raw image; what a machine writes to it is forgotten.
type disk struct {
	path     string
	readOnly bool
}

// args is qemu's command line. Reports come out of its standard output. Without
// KVM a machine has one processor: emulated ones wait for each other, which takes
// a third more time when the host is busy, as it is with two machines.
func (c config) args() []string {
	args := []string{"-machine", "q35", "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot",
		"-net", "none", "-m", "1536"}
	if c.accel == KVM {
		args = append(args, "-accel", "kvm", "-cpu", "host", "-smp", "2")
	} else {
		args = append(args, "-accel", "tcg", "-cpu", "qemu64", "-smp", "1")
	}
	args = append(args, "-kernel", c.kernel.Image, "-initrd", c.kernel.Initrd, "-append", c.params,
		"-serial", "file:"+escape(c.console), "-device", "virtio-rng-pci")
	for _, d := range c.disks {
		mode := "snapshot=on"
		if d.readOnly {
			mode = "readonly=on"
		}
		args = append(args, "-drive", "if=virtio,format=raw,"+mode+",file="+escape(d.path))
	}
	return append(args, "-device", "virtio-serial-pci", "-chardev", "stdio,id=report,signal=off",
		"-device", "virtserialport,chardev=report,name="+guest.PortName)
}

// escape writes a path into a qemu option: commas are doubled.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// params is a machine's kernel command line. A panic ends the machine at once;
// mitigations cost time and change nothing that is tested.
func params(m machine.Machine) string {
	init := "/vm/init"
	if m.Init == machine.Systemd {
		init = "/lib/systemd/systemd"
	}
	words := []string{"console=ttyS0", "quiet", "panic=-1", "mitigations=off", "init=" + init, m.Guest().Params()}
	if m.Boot.Params != "" {
		words = append(words, m.Boot.Params)
	}
	return strings.Join(words, " ")
}

// trialParams make the initrd say that the kernel runs, and power off.
const (
	trialParams = "console=ttyS0 quiet panic=-1 testvm.trial"
	trialSaid   = "testvm: the kernel runs"
)

func (a Accel) valid() error {
	if a == KVM || a == TCG {
		return nil
	}
	return fmt.Errorf("no accelerator %q: want kvm or tcg", a)
}
