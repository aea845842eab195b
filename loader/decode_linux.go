package loader

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/sallyport/sallyport/bpf"
)

// Sizes of what begins a record in the ring buffer.
const (
	denialSize = int(unsafe.Sizeof(bpf.KernelDenial{}))
	goneSize   = int(unsafe.Sizeof(bpf.KernelGone{}))
)

// denial is a record with its parts told apart.
type denial struct {
	bpf.KernelDenial
	parts [bpf.KernelPartPARTS][]byte
}

func (d *denial) state(p bpf.KernelPart) pathState { return pathState(d.State[p]) }

// decodeDenial reads a record. Lengths come from the kernel's programs, which
// had them from a process: they are checked.
func decodeDenial(raw []byte) (*denial, error) {
	d := &denial{}
	if len(raw) < denialSize {
		return nil, fmt.Errorf("read record: %d bytes are too few", len(raw))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&d.KernelDenial)), denialSize), raw)
	at := denialSize
	for i, n := range d.Len {
		if n == 0 {
			continue
		}
		if at+int(n) > len(raw) {
			return nil, fmt.Errorf("read record: part %d ends after its %d bytes", i, len(raw))
		}
		d.parts[i] = bytes.Clone(raw[at : at+int(n)])
		at += int(n)
	}
	return d, nil
}

func decodeGone(raw []byte) (bpf.KernelGone, error) {
	var g bpf.KernelGone
	if len(raw) < goneSize {
		return g, fmt.Errorf("read record: %d bytes are too few", len(raw))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&g)), goneSize), raw)
	return g, nil
}
