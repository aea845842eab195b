package sallyport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/metrics"
)

func TestARunOnMacOSIsCountedAndExported(t *testing.T) {
	var taken atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		taken.Add(n)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	dir := t.TempDir()
	w := newMacWorld(t, "", fmt.Sprintf("audit: {textfile: %q, otlp: %q}\n", dir, collector.URL))
	w.during = func(w *macWorld) {
		w.denies(77, "file-read-data", "/hidden/x")
		w.done()
	}
	if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, fmt.Sprintf("sallyport-%d.prom", os.Getuid()))
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`sallyport_sandbox_starts_total{outcome="started",uid=`, `sallyport_enforcement_tier{tier="seatbelt",uid="`, `layer="seatbelt"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if taken.Load() == 0 {
		t.Error("nothing came to the collector")
	}
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
		o := newOutlets(&outlets{logs: logs, version: "1", warn: func(m, _ string) { t.Error(m) }})
		o.rules.Textfile = dir
		o.begin(1, func() event.Traffic { return event.Traffic{BytesIn: 10, Open: 2} })
		for range n {
			if err := w.Append(event.Event{Layer: event.LayerProxy, Operation: event.NetConnect, Rule: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if killed {
			o.flush() // its goroutine; nothing is written
			w.Close()
			return
		}
		o.read = func() event.Traffic { return event.Traffic{BytesIn: 30} }
		w.Close()
		o.close()
		o.close() // again: nothing happens
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
	if err := testutil.CollectAndCompare(metrics.NewCollector(listed(ledgerFigures{&outlets{}, l}.Figures())), want, "sallyport_events_total"); err != nil {
		t.Error(err)
	}
}

func TestAStoppedRunHoldsNobodyUp(t *testing.T) {
	logs := t.TempDir()
	unlock, ok, err := audit.LockState(filepath.Join(logs, ".metrics.json"))
	if err != nil || !ok {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := lockFor(filepath.Join(logs, ".metrics.json"), 1); err != errBusy {
		t.Errorf("lock: %v", err)
	}
}

func TestATextfileThatCannotBeWrittenIsSaidOnceAndEndsNothing(t *testing.T) {
	logs := t.TempDir()
	var said []string
	o := newOutlets(&outlets{logs: logs, warn: func(m, _ string) { said = append(said, m) }})
	o.rules.Textfile = filepath.Join(logs, "missing")
	o.begin(1, func() event.Traffic { return event.Traffic{} })
	o.count()
	o.count()
	o.close()
	if len(said) != 1 {
		t.Errorf("said %q", said)
	}
}
