package loader

import (
	"testing"
	"unsafe"

	"github.com/sallyport/sallyport/bpf"
)

// rawDenial is a record as the kernel writes it.
func rawDenial(d bpf.KernelDenial, data string) []byte {
	d.Kind = uint8(bpf.KernelKindKIND_DENIAL)
	return append(append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&d)), denialSize)...), data...)
}

func TestPartsOfARecordAreToldApart(t *testing.T) {
	d := bpf.KernelDenial{Len: [5]uint16{3, 0, 2, 0, 1}, Nr: 7}
	got, err := decodeDenial(rawDenial(d, "ab\x00c\x00d"))
	if err != nil || got.Nr != 7 || string(got.parts[0]) != "ab\x00" || got.parts[1] != nil || string(got.parts[2]) != "c\x00" || string(got.parts[4]) != "d" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestARecordThatIsShorterThanItSaysIsRefused(t *testing.T) {
	whole := rawDenial(bpf.KernelDenial{Len: [5]uint16{3}}, "abc")
	for n := range whole {
		if _, err := decodeDenial(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken for a record", n, len(whole))
		}
	}
	if _, err := decodeGone(whole[:3]); err == nil {
		t.Error("three bytes were taken for the end of a process")
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(rawDenial(bpf.KernelDenial{Len: [5]uint16{3, 0, 2}, State: [5]uint8{1, 0, 1}}, "ab\x00c\x00"))
	f.Add(rawDenial(bpf.KernelDenial{Compat: 1}, ""))
	f.Add([]byte{1})
	l := &Loader{names: names{"none", "openat"}, procs: &processes{}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if g, err := decodeGone(raw); err == nil {
			_ = g
		}
		d, err := decodeDenial(raw)
		if err != nil {
			return
		}
		d.Who.Proc = 0 // nothing is asked of a kernel
		r := l.record(d, clock{})
		if r.Event.Process == nil {
			t.Error("an event without a process")
		}
	})
}
