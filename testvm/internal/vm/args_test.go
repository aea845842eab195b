package vm

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

func sample(a Accel) config {
	return config{accel: a, kernel: image.Kernel{Image: "/k/vmlinuz", Initrd: "/k/initrd"}, params: "quiet",
		disks: []disk{{"/root,1", false}, {"/modules", true}}, console: "/c,o"}
}

// value is what follows a flag.
func value(t *testing.T, args []string, flag string) string {
	t.Helper()
	i := slices.Index(args, flag)
	if i < 0 || i+1 == len(args) {
		t.Fatalf("no %s in %q", flag, args)
	}
	return args[i+1]
}

func TestArgs(t *testing.T) {
	args := sample(TCG).args()
	for flag, want := range map[string]string{
		"-kernel": "/k/vmlinuz", "-initrd": "/k/initrd", "-append": "quiet", "-serial": "file:/c,,o",
		"-accel": "tcg", "-cpu": "qemu64", "-smp": "1", "-net": "none",
	} {
		if got := value(t, args, flag); got != want {
			t.Errorf("%s %q, want %q", flag, got, want)
		}
	}
	if !slices.Contains(args, "-no-reboot") {
		t.Error("a panic starts the machine again")
	}
	if got := value(t, sample(KVM).args(), "-cpu"); got != "host" {
		t.Errorf("-cpu %q with KVM", got)
	}
}

func TestDisksAreNeverWrittenTo(t *testing.T) {
	var drives []string
	args := sample(TCG).args()
	for i, a := range args {
		if a == "-drive" {
			drives = append(drives, args[i+1])
		}
	}
	want := []string{"if=virtio,format=raw,snapshot=on,file=/root,,1", "if=virtio,format=raw,readonly=on,file=/modules"}
	if !slices.Equal(drives, want) {
		t.Errorf("drives %q, want %q", drives, want)
	}
}

func TestParams(t *testing.T) {
	tests := map[string][]string{
		"6.1-plain":             {"init=/vm/init", "panic=-1", "testvm.machine=6.1-plain", "testvm.without=delegation"},
		"6.1-systemd":           {"init=/lib/systemd/systemd", "testvm.without="},
		"6.1-systemd-hybrid":    {"systemd.unified_cgroup_hierarchy=0"},
		"6.1-plain-nobpflsm":    {"lsm=landlock,lockdown,yama,integrity,apparmor"},
		"5.10-plain-bpflsm":     {"lsm=lockdown,yama,integrity,apparmor,bpf"},
		"newest-plain-nouserns": {"sysctl.kernel.unprivileged_userns_clone=0"},
	}
	for name, want := range tests {
		m, err := machine.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(params(m))
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%s: %s is not in %q", name, w, got)
			}
		}
	}
}

func TestJobForLeavesOutWhatAMachineCannotJudge(t *testing.T) {
	steps := []report.Step{{Name: "root"}, {Name: "user", User: true}}
	stock := JobFor(machine.Machine{Kernel: machine.Linux61, Init: machine.Systemd}, steps)
	if len(stock.Steps) != 2 || !stock.Systemd || len(stock.UserWrap) != 0 || stock.Machine != "6.1-systemd" {
		t.Errorf("stock: %+v", stock)
	}
	confined := JobFor(machine.Machine{Kernel: machine.Linux61, Init: machine.Plain, Boot: machine.AppArmorUserns}, steps)
	if len(confined.Steps) != 1 || !confined.Steps[0].User || len(confined.UserWrap) == 0 || confined.Systemd {
		t.Errorf("confined: %+v", confined)
	}
	if !slices.Contains(confined.Env, "SALLYPORT_TESTVM=6.1-plain-apparmor") {
		t.Errorf("environment %q", confined.Env)
	}
}
