package sandbox

import (
	"encoding/binary"
	"fmt"
	"runtime"

	"golang.org/x/net/bpf"

	"github.com/sallyport/sallyport/internal/plan"
)

// seccompFilter assembles the filter for this machine: instructions of 8 bytes
// in the machine's order, struct sock_filter of linux/filter.h.
func seccompFilter(s plan.Seccomp, notify bool) ([]byte, error) {
	arch, err := plan.ParseArch(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	prog, err := seccompProgram(s, arch, notify)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, fmt.Errorf("assemble seccomp filter: %w", err)
	}
	var filter []byte
	for _, r := range raw {
		filter = binary.NativeEndian.AppendUint16(filter, r.Op)
		filter = binary.NativeEndian.AppendUint32(append(filter, r.Jt, r.Jf), r.K)
	}
	return filter, nil
}
