package sandbox

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAProgramThatSharesMemoryReportsAndLeavesTheSupervisorAsItWas: what it does
// to itself is its own.
func TestAProgramThatSharesMemoryReportsAndLeavesTheSupervisorAsItWas(t *testing.T) {
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	p := newProgram()
	p.control = theirs.Fd()
	p.add("change directory", unix.SYS_CHDIR, "/")
	p.add("close a descriptor", unix.SYS_CLOSE, ours.Fd())
	p.add("fail", unix.SYS_CHDIR, "/nowhere/at/all")
	pid, err := p.forkSharing(0)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	report := make([]byte, 8)
	if n, err := ours.Read(report); n != len(report) {
		t.Fatalf("reported %d bytes: %v", n, err)
	}
	if err := (&child{pid: pid}).wait(); err == nil || err.Error() != "exit status 125" {
		t.Errorf("ended with %v", err)
	}
	said := [2]uint32{binary.NativeEndian.Uint32(report), binary.NativeEndian.Uint32(report[4:])}
	if err := p.explain(said); err.Error() != "fail: no such file or directory" {
		t.Errorf("failed with %v", err)
	}
	if after, err := os.Getwd(); err != nil || after != before {
		t.Errorf("in %s now, %v, was in %s", after, err, before)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 1 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
}
