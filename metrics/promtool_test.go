package metrics

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport/sallyport/internal/event"
)

func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed ('make test-full' installs it)")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "alerts"
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// full has a value of everything.
func full() fixed {
	f := fixed{Version: "1", Tier: event.TierTrace, Policy: strings.Repeat("a", 64), Programs: map[string]event.Program{"exit": {}},
		Maps: map[string]event.Map{"procs": {}}, Exports: map[string]event.Export{"otlp": {}}}
	for op := range event.Operations() {
		f.Counts.Add(&event.Event{Layer: event.LayerTrace, Operation: event.Operation(op), Count: 1, LostSinceLast: 1})
	}
	f.Traffic.Decisions.Observe(1)
	return f
}

func TestPromtoolTakesTheExposition(t *testing.T) {
	w := httptest.NewRecorder()
	NewServer(full()).Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || w.Body.Len() < 1000 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	promtool(t, w.Body.Bytes(), "check", "metrics")
	path := filepath.Join(t.TempDir(), "sallyport-1000.prom")
	if err := WriteTextfile(path, 1000, full()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(b), fmt.Sprintf(`sallyport_events_total{uid="1000"} %d`+"\n", len(event.Operations()))) {
		t.Errorf("textfile: %v: %s", err, b)
	}
	promtool(t, b, "check", "metrics")
	w = httptest.NewRecorder()
	NewServer(full()).Handler.ServeHTTP(w, httptest.NewRequest("POST", "/metrics", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestPromtoolTakesTheAlerts(t *testing.T) {
	promtool(t, nil, "check", "rules", "sallyport.yaml")
	promtool(t, nil, "test", "rules", "sallyport_test.yaml")
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryAlertIsTestedAndHasARunbook(t *testing.T) {
	rules, tests, doc := read(t, "alerts/sallyport.yaml"), read(t, "alerts/sallyport_test.yaml"), read(t, "../docs/fleet.md")
	names := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	if len(names) != 9 {
		t.Errorf("%d alerts", len(names))
	}
	for _, m := range names {
		name := m[1]
		if !strings.Contains(rules, "docs/fleet.md#"+strings.ToLower(name)+"\n") || !strings.Contains(doc, "\n### "+name+"\n") {
			t.Errorf("%s has no runbook in docs/fleet.md", name)
		}
		if !strings.Contains(tests, "alertname: "+name+"\n        exp_alerts:") {
			t.Errorf("%s: no test has it fire", name)
		}
	}
}

func TestDashboardsAndAlertsNameMetricsThatAre(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(NewCollector(full()))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, f := range families {
		known = append(known, f.GetName(), f.GetName()+"_bucket")
	}
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("dashboards %q: %v", files, err)
	}
	for _, name := range append(files, "alerts/sallyport.yaml", "alerts/sallyport_test.yaml", "../docs/fleet.md") {
		for _, m := range regexp.MustCompile(`\bsallyport_[a-z_]+`).FindAllString(read(t, name), -1) {
			if !slices.Contains(known, m) && m != "sallyport_test" {
				t.Errorf("%s: there is no %s", name, m)
			}
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	h := NewServer(full()).Handler
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	}
}
