package machine

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/feature"
)

func TestParseReadsWhatStringWrites(t *testing.T) {
	for _, k := range Kernels {
		for _, init := range []Init{Plain, Systemd} {
			for _, b := range Boots {
				m := Machine{k, init, b}
				got, err := Parse(m.String())
				if err != nil || !reflect.DeepEqual(got, m) {
					t.Errorf("Parse(%q) = %v, %v", m, got, err)
				}
			}
		}
	}
}

func TestParseNamesTheChoices(t *testing.T) {
	for _, name := range []string{"", "6.1", "6.1-", "6.1-plain-", "6.1-init(0)", "4.4-plain", "6.1-plain-hybrid-hybrid"} {
		_, err := Parse(name)
		if err == nil || !strings.Contains(err.Error(), "5.10, 6.1, 6.12, 6.18, newest") || !strings.Contains(err.Error(), "hybrid") {
			t.Errorf("Parse(%q) = %v", name, err)
		}
	}
}

func TestMatrixHasEveryKernelPlainAndSystemd(t *testing.T) {
	names := map[string]bool{}
	for _, m := range Matrix() {
		if names[m.String()] {
			t.Errorf("%s is there twice", m)
		}
		names[m.String()] = true
	}
	for _, want := range []string{
		"5.10-plain", "5.10-systemd", "6.1-plain", "6.1-systemd", "6.12-plain", "6.12-systemd",
		"6.18-plain", "6.18-systemd", "newest-plain", "newest-systemd",
		"6.1-plain-hybrid", "6.1-systemd-hybrid", "6.1-plain-nobpflsm", "6.1-plain-nouserns", "6.1-plain-apparmor",
	} {
		if !names[want] {
			t.Errorf("%s is not in the matrix", want)
		}
	}
	for _, m := range CI() {
		if !names[m.String()] {
			t.Errorf("%s is in CI and not in the matrix", m)
		}
	}
}

func TestKernelsOfMachinesAreListedOnce(t *testing.T) {
	if got := KernelsOf(Matrix()); !reflect.DeepEqual(got, Kernels) {
		t.Errorf("kernels %+v", got)
	}
}

func TestLacks(t *testing.T) {
	tests := []struct {
		machine Machine
		want    []feature.Name
	}{
		{Machine{Linux61, Systemd, Stock}, nil},
		{Machine{Linux61, Plain, Stock}, []feature.Name{feature.Delegation}},
		{Machine{Linux61, Plain, Hybrid}, []feature.Name{feature.Cgroup2, feature.CgroupLimits, feature.Delegation}},
		{Machine{Linux510, Systemd, Stock}, []feature.Name{feature.BPFLSM, feature.MPTCP}},
		{Machine{Linux510, Systemd, WithBPFLSM}, []feature.Name{feature.MPTCP}},
		{Machine{Linux61, Systemd, NoBPFLSM}, []feature.Name{feature.BPFLSM, feature.BPFLSMUserns}},
	}
	for _, tt := range tests {
		if got := tt.machine.Lacks(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s lacks %v, want %v", tt.machine, got, tt.want)
		}
		if g := tt.machine.Guest(); !g.Inside() || !reflect.DeepEqual(g.Without, tt.want) {
			t.Errorf("%s says of itself %+v", tt.machine, g)
		}
	}
}

func TestZeroInitIsInvalid(t *testing.T) {
	var i Init
	if i == Plain || i == Systemd {
		t.Error("the zero value is a way of starting")
	}
}

func TestBoxes(t *testing.T) {
	if !Boxes[0].Built() {
		t.Error("the box that is run by default cannot be built")
	}
	if b, ok := FindBox("debian11"); !ok || !b.Guest().Inside() || !reflect.DeepEqual(b.Guest().Without, Linux510.Lacks) {
		t.Errorf("debian11: %+v, %t", b, ok)
	}
	if b, ok := FindBox("fedora"); !ok || b.Guest().Inside() {
		t.Errorf("fedora promises what nobody checked: %+v, %t", b, ok)
	}
	if _, ok := FindBox("windows"); ok {
		t.Error("windows is a box")
	}
}
