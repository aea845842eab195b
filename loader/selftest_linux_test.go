package loader

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func TestTheSelfTestProvokesEveryProgram(t *testing.T) {
	parent := parentGroup(t)
	list, err := SelfTest(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(programs) {
		t.Errorf("%d findings, want %d", len(list), len(programs))
	}
	for _, f := range list {
		if f.Tier == event.TierLSM {
			continue // of a test of its own
		}
		if f.State != Works && (f.Tier != event.TierNone || f.State != Unsupported) {
			t.Errorf("%s, which %s: %v: %v", f.Program, f.Purpose, f.State, f.Err)
		}
	}
	if left, err := os.ReadDir(parent); err == nil {
		for _, e := range left {
			if e.IsDir() {
				t.Errorf("%s is left", e.Name())
			}
		}
	}
}

// slow takes so long over the first denial that there is something else to do.
type slow struct{ heard int }

func (s *slow) Denied(Record) {
	if s.heard++; s.heard == 1 {
		time.Sleep(settleEvery + settleEvery/10)
	}
}

func (*slow) Lost(event.Operation, uint64) {}

func TestAReaderThatIsToldToEndReadsWhatIsThere(t *testing.T) {
	w := newWorld(t, Options{})
	w.stop()
	d := makeCorpusDir(t)
	b := w.add(everything)
	cat := nobody(b.command("cat", d+"/closed.txt"))
	cat.Stderr = nil
	if err := cat.Run(); err == nil {
		t.Fatal("read what is closed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &slow{}
	if err := w.l.Read(ctx, s); err != nil || s.heard == 0 {
		t.Fatalf("%d records, %v", s.heard, err)
	}
	for _, k := range w.l.procs.gone {
		if k.PID == cat.Process.Pid {
			return
		}
	}
	t.Errorf("the end of process %d is not known", cat.Process.Pid)
}

func TestWhatIsNotThereDiffersFromWhatCouldNotBeTested(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want State
	}{
		{&ProgramError{"connect4", "", "load", unix.EINVAL}, Unsupported},
		{&ProgramError{"connect4", "", "load", unix.EPERM}, Untested},
		{errors.New("no memory"), Untested},
	} {
		for _, f := range judgeFailure(tt.err) {
			want := Untested
			if f.Program == "connect4" {
				want = tt.want
			}
			if f.State != want || f.Err == nil {
				t.Errorf("%v: %s is %v, %v; want %v", tt.err, f.Program, f.State, f.Err, want)
			}
		}
	}
}
