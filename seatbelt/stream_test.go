package seatbelt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector takes what a Stream emits.
type collector struct {
	mu  sync.Mutex
	got []string
}

func (c *collector) emit(_ Record, v Violation, by Attribution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, fmt.Sprintf("%d %s %s %s", v.Count, v.Op, v.Target, by))
}

func (c *collector) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.got...)
}

// long is longer than what should happen takes anywhere.
const long = 30 * time.Second

const testTag = "sallyport-0123456789abcdef0123456789abcdef"

func start(t *testing.T, f *fakes) (*Stream, *collector, error) {
	t.Helper()
	c := &collector{}
	s, err := StartStream(StreamConfig{Exec: f, Tag: testTag, CanaryFile: "/private/tmp/canary", Emit: c.emit,
		Owns:  func(pid int) bool { return pid == 777 },
		Ready: long, Try: 20 * time.Millisecond, Drain: long})
	return s, c, err
}

func mustStart(t *testing.T, f *fakes) (*Stream, *collector) {
	t.Helper()
	s, c, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func denied(pid int, op, target, tag string) string {
	return kernelSays(fmt.Sprintf("Sandbox: cat(%d) deny(1) %s %s\n%s", pid, op, target, tag))
}

func TestStreamGivesTheRunsOwnViolationsAndNoOthers(t *testing.T) {
	for _, mode := range []string{"", "dribbles", "slow"} {
		t.Run("mode "+mode, func(t *testing.T) {
			f := newFakes(t, mode)
			f.report(denied(1, "file-read-data", "/before", testTag))
			s, c := mustStart(t, f)
			forged := strings.Replace(denied(5, "file-read-data", "/forged", testTag), `"processID":0`, `"processID":4242`, 1)
			whole := denied(6, "file-read-data", "/broken", testTag)
			f.report(
				denied(1, "file-read-data", "/é日本/\U0001F600", testTag),
				denied(2, "file-write-create", "/two\nlines", testTag),
				kernelSays("3 duplicate reports for Sandbox: cat(1) deny(1) file-read-data /again\n"+testTag),
				denied(3, "file-read-data", "/another run", "sallyport-ffffffffffffffffffffffffffffffff"),
				denied(4, "file-read-data", "/more than the tag", testTag+"x"),
				kernelSays("Sandbox: cat(1) System Policy: deny(1) file-read-data /x\n"+testTag),
				forged, whole[:len(whole)-30],
				logEntry(601, sandboxdPath, "Sandbox: cat(9) deny(1) mach-lookup x\n"+testTag),
			)
			stats := s.Stop()
			want := []string{"1 file-read-data /é日本/\U0001F600 tag", "1 file-write-create /two\nlines tag", "3 file-read-data /again tag"}
			if got := c.list(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if stats.Attempts != 5 || stats.Outcomes[OtherProcess] != 2 || stats.Outcomes[OtherTag] != 2 ||
				stats.Outcomes[Broken] != 1 || stats.Outcomes[Platform] != 1 || len(stats.Incomplete) != 0 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

func TestStreamAttributesRecordsWithoutATagByPid(t *testing.T) {
	f := newFakes(t, "")
	s, c := mustStart(t, f)
	f.report(
		kernelSays("Sandbox: cat(777) deny(1) file-read-data /long‹…>"),
		kernelSays("Sandbox: cat(778) deny(1) file-read-data /long of another‹…>"),
		kernelSays("Sandbox: sudo(777) deny(1) forbidden-exec-sugid"),
		kernelSays("Sandbox: cat(777) deny(1) file-read-data /a whole record without our tag"),
	)
	stats := s.Stop()
	want := []string{"1 file-read-data /long‹…> pid", "1 forbidden-exec-sugid  pid"}
	if got := c.list(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if stats.Unattributed != 1 || stats.Outcomes[OtherTag] != 1 {
		t.Errorf("stats %+v", stats)
	}
}

func TestStreamIsStartedAgainWithATypeWhereItShowsNothing(t *testing.T) {
	t.Parallel() // it waits in vain first, but long enough for a slow machine to be ready then
	f := newFakes(t, "needs-type")
	c := &collector{}
	s, err := StartStream(StreamConfig{Exec: f, Tag: testTag, CanaryFile: "/private/tmp/canary", Emit: c.emit,
		Ready: 4 * time.Second, Try: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	runs := f.started(logProgram)
	if len(runs) != 2 || strings.Contains(fmt.Sprint(runs[0]), "--type") || !strings.Contains(fmt.Sprint(runs[1]), "--type log") {
		t.Errorf("started %q", runs)
	}
}

func TestStreamAsksForTheKernelsWordsOnly(t *testing.T) {
	f := newFakes(t, "")
	s, _ := mustStart(t, f)
	s.Stop()
	want := []string{"stream", "--style", "ndjson", "--level", "debug", "--predicate",
		`processID == 0 AND (eventMessage CONTAINS "` + testTag + `" OR (eventMessage CONTAINS "Sandbox: " AND ` +
			`(eventMessage ENDSWITH "‹…>" OR eventMessage CONTAINS ") forbidden-")))`}
	if got := f.started(logProgram); len(got) != 1 || fmt.Sprintf("%q", got[0]) != fmt.Sprintf("%q", want) {
		t.Errorf("started %q, want %q", got, want)
	}
	canaries := f.started(sandboxExec)
	first := canaries[0]
	if len(first) != 6 || first[0] != "-p" || !strings.Contains(first[1], testTag+"-ready") ||
		first[2] != "-DFILE=/private/tmp/canary" || fmt.Sprint(first[3:]) != "[-- /bin/cat /private/tmp/canary]" {
		t.Errorf("canary %q", first)
	}
	if _, err := readProfile(first[1]); err != nil {
		t.Errorf("the canary's profile: %v", err)
	}
}

func TestStreamSaysWhyThereIsNone(t *testing.T) {
	for _, tt := range []struct {
		mode string
		want error
		text string
	}{
		{"not-admin", ErrNotAdmin, "Must be admin"},
		{"sandboxed", ErrInSandbox, "exited with 64"},
		{"exit3", nil, "exited with 3: log: Bad predicate"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			f := newFakes(t, tt.mode)
			_, _, err := start(t, f)
			var hinted *Error
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v", err)
			}
			if tt.want != nil && (!errors.Is(err, tt.want) || !errors.As(err, &hinted) || hinted.Hint == "") {
				t.Errorf("%v is not %v with a hint", err, tt.want)
			}
			if n := len(f.started(logProgram)); n != 1 {
				t.Errorf("started %d times", n)
			}
		})
	}
}

func TestStreamThatShowsNothingIsAnError(t *testing.T) {
	for _, mode := range []string{"deaf", "deaf,nested"} {
		f := newFakes(t, mode)
		begin := time.Now()
		_, err := StartStream(StreamConfig{Exec: f, Tag: testTag, CanaryFile: "/x", Emit: (&collector{}).emit,
			Ready: 100 * time.Millisecond, Try: 20 * time.Millisecond})
		if !errors.Is(err, ErrNotReady) {
			t.Errorf("%s: %v", mode, err)
		}
		if took := time.Since(begin); took > long {
			t.Errorf("%s: took %v", mode, took)
		}
	}
	if _, err := StartStream(StreamConfig{Exec: newFakes(t, ""), Tag: `x" OR 1 == 1`}); err == nil {
		t.Error("a tag that ends the predicate's text was taken")
	}
}

func TestAHangingCanaryDoesNotHangTheStream(t *testing.T) {
	f := newFakes(t, "hangs")
	begin := time.Now()
	_, err := StartStream(StreamConfig{Exec: f, Tag: testTag, CanaryFile: "/x", Emit: (&collector{}).emit,
		Ready: 100 * time.Millisecond, Try: 20 * time.Millisecond})
	if !errors.Is(err, ErrNotReady) || time.Since(begin) > long {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestABurstArrivesWholeBeforeStopReturns(t *testing.T) {
	f := newFakes(t, "")
	s, c := mustStart(t, f)
	var lines []string
	for i := range 1000 {
		lines = append(lines, denied(i+1, "file-read-data", fmt.Sprint("/", i), testTag))
	}
	f.report(lines...)
	stats := s.Stop()
	if got := c.list(); len(got) != 1000 || stats.Attempts != 1000 || len(stats.Incomplete) != 0 {
		t.Errorf("%d records, %+v", len(got), stats)
	}
}

func TestWhatAStalledLogHidIsLookedUpOnce(t *testing.T) {
	t.Parallel() // the last refusal is waited for in vain
	f := newFakes(t, "stalls")
	s, c := mustStart(t, f)
	f.report(denied(1, "file-read-data", "/hidden", testTag))
	s.cfg.Drain = 3 * time.Second
	s.mu.Lock()
	s.heard = s.heard.Add(-10 * time.Minute) // that long ago
	s.mu.Unlock()
	stats := s.Stop()
	if got := c.list(); len(got) != 1 || stats.Attempts != 1 || len(stats.Incomplete) != 0 {
		t.Errorf("%q, %+v", got, stats)
	}
	runs := f.started(logProgram)
	show := runs[len(runs)-1]
	last, err := time.ParseDuration(show[slices.Index(show, "--last")+1])
	if show[0] != "show" || err != nil || last < 10*time.Minute+10*time.Second {
		t.Errorf("looked up with %q", show)
	}
}

func TestALogThatEndsIsStartedAgainAndTheGapLookedUp(t *testing.T) {
	f := newFakes(t, "")
	s, c := mustStart(t, f)
	f.report(denied(1, "file-read-data", "/first", testTag))
	waitFor(t, func() bool { return len(c.list()) == 1 })
	if err := os.WriteFile(filepath.Join(f.dir, "die"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(f.started(logProgram)) == 2 })
	f.report(denied(2, "file-read-data", "/second", testTag))
	stats := s.Stop()
	want := []string{"1 file-read-data /first tag", "1 file-read-data /second tag"}
	if got := c.list(); fmt.Sprint(got) != fmt.Sprint(want) || stats.Attempts != 2 || len(stats.Incomplete) != 0 {
		t.Errorf("%q, %+v", got, stats)
	}
}

func TestALogThatKeepsEndingMakesTheRecordIncomplete(t *testing.T) {
	f := newFakes(t, "")
	s, _ := mustStart(t, f)
	f.setMode("exit3")
	if err := os.WriteFile(filepath.Join(f.dir, "die"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.stats.Incomplete) > 0
	})
	s.cfg.Drain = 100 * time.Millisecond
	stats := s.Stop()
	if text := fmt.Sprint(stats.Incomplete); !strings.Contains(text, "ended by itself 6 times") || !strings.Contains(text, "exited with 3") {
		t.Errorf("incomplete: %s", text)
	}
}

func TestLossMakesTheRecordIncomplete(t *testing.T) {
	f := newFakes(t, "")
	s, _ := mustStart(t, f)
	f.report(`{"eventType":"lossEvent","lossCount":12,"timestamp":"2026-09-18 11:11:11.806671-0400"}`)
	if stats := s.Stop(); stats.Lost != 12 || len(stats.Incomplete) != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestTheEndThatWasNotSeenIsSaid(t *testing.T) {
	f := newFakes(t, "stalls,show-nothing")
	s, _ := mustStart(t, f)
	s.cfg.Drain = 100 * time.Millisecond
	if stats := s.Stop(); len(stats.Incomplete) != 1 || !strings.Contains(stats.Incomplete[0], "end of the log") {
		t.Errorf("%+v", stats)
	}
}

func TestALogThatDoesNotEndIsKilled(t *testing.T) {
	f := newFakes(t, "deaf-to-term")
	s, _ := mustStart(t, f)
	s.cfg.End = 200 * time.Millisecond
	begin := time.Now()
	s.Stop()
	if took := time.Since(begin); took < s.cfg.End || took > long {
		t.Errorf("took %v", took)
	}
}

func TestMemoryOfRecordsIsBounded(t *testing.T) {
	m := newRecent()
	for i := range 3 * recentRecords {
		if r := (Record{Mach: uint64(i + 1), Text: "x"}); !m.add(r) || m.add(r) {
			t.Fatal(i)
		}
	}
	if len(m.set) != recentRecords || len(m.ring) != recentRecords {
		t.Errorf("%d, %d", len(m.set), len(m.ring))
	}
	first, second := m.add(Record{Text: "no clock"}), m.add(Record{Text: "no clock"})
	if !first || !second {
		t.Error("records without the kernel's clock cannot be told apart")
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen")
		}
	}
}
