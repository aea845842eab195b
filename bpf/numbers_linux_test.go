package bpf

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

var update = flag.Bool("update", false, "write the golden files")

// Records of programs that a predecessor attached are read by who takes them over:
// what has a number keeps it for as long as the ABI is the same.
func TestWhatRecordsNameKeepsItsNumber(t *testing.T) {
	const golden = "testdata/numbers.golden"
	var now strings.Builder
	spec := objects(t)["kernel_x86_bpfel.o"]
	fmt.Fprintln(&now, "ABI", KernelAbiABI)
	for _, enum := range []string{"op", "hook", "kind", "part", "part_state", "call_id"} {
		var e *btf.Enum
		if err := spec.Types.TypeByName(enum, &e); err != nil {
			t.Fatal(err)
		}
		for _, v := range e.Values {
			if v.Name != "OPS" && v.Name != "PARTS" && v.Name != "CALL_IDS" { // how many there are
				fmt.Fprintln(&now, v.Name, v.Value)
			}
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(now.String(), strings.SplitN(string(want), "\n", 2)[0]+"\n") {
		for line := range strings.Lines(string(want)) {
			if !strings.Contains(now.String(), line) {
				t.Errorf("was %s, and is not any more: it needs another ABI", strings.TrimSpace(line))
			}
		}
	}
	if now.String() != string(want) {
		t.Errorf("%s is not what there is: run the test with -update", golden)
	}
}
