package metrics

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport/sallyport/internal/event"
)

// fixed is a source that says the same each time.
type fixed event.Figures

func (f fixed) Figures() event.Figures { return event.Figures(f) }

// hostile is text that a payload can choose: a whole series of its own.
const hostile = "x\"} 1\nsallyport_denials_total{layer=\"\xff\x1b[2J"

func TestWhatIsCountedIsExposed(t *testing.T) {
	f := fixed{Version: "1.0", Tier: event.TierTrace, Sandboxes: 3, LogBytes: 99, Policy: strings.Repeat("ab", 32),
		Programs: map[string]event.Program{"exit": {Runs: 5, Time: 1500}}, Maps: map[string]event.Map{"procs": {Entries: 2, Capacity: 9}},
		Exports: map[string]event.Export{"otlp": {Sent: 7, Behind: 11}}}
	f.Counts.Add(&event.Event{Layer: event.LayerProxy, Operation: event.NetConnect, Reason: event.NotAllowed, Count: 4})
	f.Counts.Add(&event.Event{Verdict: event.AskDenied, Layer: event.LayerProxy, Operation: event.NetConnect, Reason: event.Unanswered, Count: 2})
	f.Counts.Add(&event.Event{Verdict: event.AskDenied, Layer: event.LayerProxy, Operation: event.NetConnect, Reason: event.UserAnswer, Count: 1})
	want := `# HELP sallyport_ask_total Attempts of which the user was asked.
# TYPE sallyport_ask_total counter
sallyport_ask_total{outcome="allowed"} 0
sallyport_ask_total{outcome="denied"} 1
sallyport_ask_total{outcome="unanswered"} 2
# HELP sallyport_bpf_program_seconds_total Time spent in the kernel's programs.
# TYPE sallyport_bpf_program_seconds_total counter
sallyport_bpf_program_seconds_total{program="exit"} 1.5e-06
# HELP sallyport_denials_total Attempts that the policy refused.
# TYPE sallyport_denials_total counter
sallyport_denials_total{layer="proxy",operation="net.connect",reason="not-allowed"} 4
sallyport_denials_total{layer="proxy",operation="net.connect",reason="unanswered"} 2
sallyport_denials_total{layer="proxy",operation="net.connect",reason="user-answer"} 1
# HELP sallyport_enforcement_tier 1 for the tier that sandboxes get, 0 for the others.
# TYPE sallyport_enforcement_tier gauge
sallyport_enforcement_tier{tier="lsm"} 0
sallyport_enforcement_tier{tier="none"} 0
sallyport_enforcement_tier{tier="rootless"} 0
sallyport_enforcement_tier{tier="seatbelt"} 0
sallyport_enforcement_tier{tier="trace"} 1
# HELP sallyport_export_behind_bytes Bytes of log that are still to be sent.
# TYPE sallyport_export_behind_bytes gauge
sallyport_export_behind_bytes{to="otlp"} 11
`
	if err := testutil.CollectAndCompare(NewCollector(f), strings.NewReader(want), "sallyport_ask_total",
		"sallyport_bpf_program_seconds_total", "sallyport_denials_total", "sallyport_enforcement_tier", "sallyport_export_behind_bytes"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(NewCollector(f))
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestCountersWithOneLabelStartAtZero(t *testing.T) {
	got := series(t, fixed{})
	for name, label := range map[string]struct {
		label  string
		values []string
	}{
		"sallyport_system_denials_total":        {"operation", event.Operations()},
		"sallyport_events_lost_total":           {"where", event.Losses()},
		"sallyport_proxy_upstream_errors_total": {"reason", event.Upstreams()},
		"sallyport_sandbox_starts_total":        {"outcome", event.Starts()},
		"sallyport_ask_total":                   {"outcome", []string{"allowed", "denied", "unanswered"}},
		"sallyport_proxy_bytes_total":           {"direction", []string{"in", "out"}},
		"sallyport_dns_queries_total":           {"verdict", []string{"allow", "deny"}},
	} {
		for _, v := range label.values {
			key := fmt.Sprintf("%s{%s=%q}", name, label.label, v)
			if n, there := got[key]; !there || n != 0 {
				t.Errorf("%s: %v, %t; want 0", key, n, there)
			}
		}
	}
	for _, name := range []string{"sallyport_events_total", "sallyport_metadata_denials_total", "sallyport_agent_requests_refused_total"} {
		if n, there := got[name+"{}"]; !there || n != 0 {
			t.Errorf("%s: %v, %t; want 0", name, n, there)
		}
	}
}

// series gives every sample's value by name and labels.
func series(t testing.TB, f fixed) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(NewCollector(f))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			out[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if h := m.GetHistogram(); h != nil {
				out[key] = float64(h.GetSampleCount())
			}
		}
	}
	return out
}

// poison puts hostile text into everything that can hold text, and numbers into
// enumerations that they do not have.
func poison(v reflect.Value, n uint64) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Uint8:
		v.SetUint(n % 256)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				poison(v.Field(i), n/uint64(i+1))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		poison(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		poison(v.Index(0), n)
	}
}

func TestNoHostileTextBecomesALabel(t *testing.T) {
	f := fixed{}
	for n := range uint64(20_000) {
		var e event.Event
		poison(reflect.ValueOf(&e).Elem(), n)
		e.Verdict, e.Count, e.LostSinceLast = event.Verdict(n%7), n, n
		f.Counts.Add(&e)
	}
	var reported event.Traffic // as a user sends it
	for _, s := range []string{`{"upstream":{"` + "evil" + `":1}}`, `{"starts":{"evil":1}}`} {
		if err := json.Unmarshal([]byte(s), &reported); err == nil {
			t.Errorf("%s is taken", s)
		}
	}
	f.Traffic.Add(event.Traffic{Open: -1, Upstream: map[event.Upstream]uint64{250: 5}}.Bounded())
	allowed := slices.Concat(event.Verdicts(), event.Layers(), event.Operations(), event.Reasons(), event.Tiers(), event.Losses(),
		event.Upstreams(), event.Starts(), []string{"in", "out", "allowed", "denied", "unanswered", ""})
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(NewCollector(f))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, family := range families {
		for _, m := range family.Metric {
			n++
			for _, l := range m.Label {
				if !slices.Contains(allowed, l.GetValue()) {
					t.Errorf("%s{%s=%q}", family.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	if n > 460 { // the process's own and those of programs and maps come to it
		t.Errorf("%d series", n)
	}
}
