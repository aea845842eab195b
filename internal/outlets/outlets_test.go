package outlets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
	"golang.org/x/sys/unix"
)

// Directories of tests are private, whatever the user's umask: logs are refused in
// others.
func init() { unix.Umask(0o022) }

// serve does a job to its end, with what a run reports, and gives what was said.
func serve(t *testing.T, job export.Job, reports ...event.Traffic) string {
	t.Helper()
	var in, out bytes.Buffer
	enc := json.NewEncoder(&in)
	if err := enc.Encode(job); err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := Serve(&in, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// record makes a log of n events.
func record(t *testing.T, logs, id string, n int) {
	t.Helper()
	w, err := audit.Create(logs, audit.Header{Sandbox: event.Sandbox{ID: id}})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := w.Append(event.Event{Layer: event.LayerSeatbelt, Operation: event.FileRead, Reason: event.PathHidden, Rule: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNumbersOfSeveralRunsAddUpThoseOfKilledOnesToo(t *testing.T) {
	logs, dir := t.TempDir(), t.TempDir()
	job := export.Job{Logs: logs, Textfile: dir, Version: "1", Tier: event.TierSeatbelt}
	record(t, logs, "a", 3)
	if said := serve(t, job, event.Traffic{BytesIn: 10, Open: 2}, event.Traffic{BytesIn: 20, Open: -2}); said != "" {
		t.Errorf("said %s", said)
	}
	record(t, logs, "b", 5) // killed: it has reported nothing
	record(t, logs, "c", 7)
	serve(t, job, event.Traffic{BytesIn: 30})
	b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("sallyport-%d.prom", os.Getuid())))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("sallyport_events_total{uid=\"%d\"} 15\n", os.Getuid()),
		fmt.Sprintf("sallyport_proxy_bytes_total{direction=\"in\",uid=\"%d\"} 60\n", os.Getuid()),
		fmt.Sprintf("sallyport_denials_total{layer=\"seatbelt\",operation=\"file.read\",reason=\"path-hidden\",uid=\"%d\"} 15\n", os.Getuid()),
		fmt.Sprintf("sallyport_enforcement_tier{tier=\"seatbelt\",uid=\"%d\"} 1\n", os.Getuid()),
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}

func TestAStoppedRunHoldsNobodyUpAndNothingIsLostByIt(t *testing.T) {
	defer func(d time.Duration) { lockLimit = d }(lockLimit)
	lockLimit = time.Millisecond
	logs := t.TempDir()
	s := &server{job: export.Job{Logs: logs, Textfile: t.TempDir()}, out: json.NewEncoder(io.Discard)}
	unlock, ok, err := audit.LockState(filepath.Join(logs, ".metrics.json"))
	if err != nil || !ok {
		t.Fatal(err)
	}
	if err := s.count(json.NewDecoder(strings.NewReader(`{"bytes_in":5}`))); err != nil || s.pending.BytesIn != 5 {
		t.Errorf("pending %+v: %v", s.pending, err)
	}
	unlock()
	if err := s.count(json.NewDecoder(strings.NewReader(`{"bytes_in":7}`))); err != nil || s.pending.BytesIn != 0 {
		t.Errorf("pending %+v: %v", s.pending, err)
	}
	if l, err := audit.LoadLedger(filepath.Join(logs, ".metrics.json")); err != nil || l.Traffic.BytesIn != 12 {
		t.Errorf("ledger %+v: %v", l, err)
	}
}

func TestATextfileThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	logs := t.TempDir()
	said := serve(t, export.Job{Logs: logs, Textfile: filepath.Join(logs, "missing")}, event.Traffic{}, event.Traffic{}, event.Traffic{})
	if strings.Count(said, "write metrics") != 1 {
		t.Errorf("said %q", said)
	}
}

func TestTheLastEventsOfARunAreSentBeforeItsEnd(t *testing.T) {
	var taken atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		taken.Add(n)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer srv.Close()
	logs := t.TempDir()
	record(t, logs, "a", 3)
	serve(t, export.Job{Logs: logs, OTLP: srv.URL, Version: "1"})
	if taken.Load() == 0 {
		t.Error("nothing came to the collector")
	}
}
