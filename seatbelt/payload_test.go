package seatbelt

import (
	"bufio"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestACommandHasASessionOfItsOwnAndSignalsReachItsChildren(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := StartPayload(Launch{Path: "/bin/sh", Args: []string{"-c", "sleep 300 & echo started; wait"}, Stdout: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "started\n" {
		t.Fatal(line, err)
	}
	if id, err := unix.Getsid(p.PID()); err != nil || id != p.PID() {
		t.Errorf("session %d of process %d: %v", id, p.PID(), err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if status, err := p.Wait(); err != nil || status != 128+15 {
		t.Errorf("status %d, %v", status, err)
	}
	// Both have ended when nobody can write any more.
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	if err := p.Signal(syscall.SIGTERM); err == nil {
		t.Error("a command that has ended was sent a signal")
	}
}
