package outlets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
	"github.com/sallyport/sallyport/metrics"
)

// served is a Serve at work.
type served struct {
	t    *testing.T
	in   *io.PipeWriter
	enc  *json.Encoder
	said bytes.Buffer
	done chan error
}

func serve(t *testing.T, job export.Job) *served {
	t.Helper()
	r, w := io.Pipe()
	s := &served{t: t, in: w, enc: json.NewEncoder(w), done: make(chan error, 1)}
	go func() { s.done <- Serve(r, &s.said) }()
	s.send(job)
	return s
}

func (s *served) send(v any) {
	s.t.Helper()
	if err := s.enc.Encode(v); err != nil {
		s.t.Fatal(err)
	}
}

// end gives what was said.
func (s *served) end() string {
	s.t.Helper()
	s.in.Close()
	if err := <-s.done; err != nil {
		s.t.Error(err)
	}
	return s.said.String()
}

// listed is a source that says the same each time.
type listed event.Figures

func (l listed) Figures() event.Figures { return event.Figures(l) }

func TestNumbersOfSeveralRunsAddUp(t *testing.T) {
	logs, dir := t.TempDir(), t.TempDir()
	run := func(n int, killed bool) {
		w, err := audit.Create(logs, audit.Header{Sandbox: event.Sandbox{ID: fmt.Sprint("r", n)}})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, export.Job{Logs: logs, Textfile: dir, Version: "1"})
		for range n {
			if err := w.Append(event.Event{Layer: event.LayerProxy, Operation: event.NetConnect, Rule: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if !killed {
			s.send(event.Traffic{BytesIn: 10, Open: 2, Starts: map[event.Start]uint64{event.Started: 1}})
			s.send(event.Traffic{BytesIn: 20})
		}
		w.Close()
		if !killed {
			s.send(event.Traffic{})
		}
		if said := s.end(); said != "" {
			t.Errorf("said %s", said)
		}
	}
	run(3, false)
	run(5, true)
	run(7, false)
	l, err := audit.LoadLedger(filepath.Join(logs, ".metrics.json"))
	if err != nil {
		t.Fatal(err)
	}
	if l.Counts.Events != 15 || l.Traffic.BytesIn != 60 || l.Traffic.Open != 0 || l.Traffic.Starts[event.Started] != 2 {
		t.Errorf("ledger %+v", l)
	}
	want := strings.NewReader("# HELP sallyport_events_total Events written to the log.\n# TYPE sallyport_events_total counter\nsallyport_events_total 15\n")
	if err := testutil.CollectAndCompare(metrics.NewCollector(listed(ledgerFigures{&export.Job{}, l}.Figures())), want, "sallyport_events_total"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("sallyport-%d.prom", os.Getuid()))); err != nil {
		t.Error(err)
	}
}

func TestAStoppedRunHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".metrics.json")
	unlock, ok, err := audit.LockState(path)
	if err != nil || !ok {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := lockFor(path, 1); err != errBusy {
		t.Errorf("lock: %v", err)
	}
}

func TestATextfileThatCannotBeWrittenIsSaidOnceAndEndsNothing(t *testing.T) {
	logs := t.TempDir()
	s := serve(t, export.Job{Logs: logs, Textfile: filepath.Join(logs, "missing")})
	for range 3 {
		s.send(event.Traffic{})
	}
	if said := s.end(); strings.Count(said, "warning") != 1 || !strings.Contains(said, "missing") {
		t.Errorf("said %q", said)
	}
}

func TestTargetsThatAreNoneAreSaid(t *testing.T) {
	s := serve(t, export.Job{Logs: t.TempDir(), Syslog: "udp://h:1"})
	if said := s.end(); !strings.Contains(said, "udp://h:1") {
		t.Errorf("said %q", said)
	}
}

func FuzzServe(f *testing.F) {
	for _, seed := range []string{"", "{}", "{}{}", `{"textfile":"/nowhere"}{"bytes_in":1}`, "{}\x00", `{"tier":"trace"}[]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(bytes.ToLower(in), []byte("otlp")) || bytes.Contains(bytes.ToLower(in), []byte("syslog")) || bytes.Contains(bytes.ToLower(in), []byte("textfile")) {
			return // could write where it pleases
		}
		_ = Serve(bytes.NewReader(in), io.Discard)
	})
}
