package agent

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Metrics serves what the agent counts at /metrics, in Prometheus's text format.
// No label holds what a user or a payload can choose.
func (s *Server) Metrics() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		var b strings.Builder
		s.expose(&b)
		_, _ = io.WriteString(w, b.String()) // gone: nobody to tell
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
}

// family writes one metric.
type family struct{ w *strings.Builder }

func (f family) head(name, kind, help string) {
	fmt.Fprintf(f.w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (f family) one(name, kind, help string, value any) {
	f.head(name, kind, help)
	fmt.Fprintf(f.w, "%s %v\n", name, value)
}

func (s *Server) expose(w *strings.Builder) {
	f := family{w}
	c := s.logs.snapshot()
	f.head("sallyport_build_info", "gauge", "The agent's version.")
	fmt.Fprintf(w, "sallyport_build_info{version=%q} 1\n", s.opts.Version)
	f.head("sallyport_enforcement_tier", "gauge", "The tier that sandboxes get.")
	fmt.Fprintf(w, "sallyport_enforcement_tier{tier=%q} 1\n", s.tier)
	s.mu.Lock()
	boxes := len(s.boxes)
	s.mu.Unlock()
	f.one("sallyport_sandboxes", "gauge", "Sandboxes there are.", boxes)
	f.one("sallyport_sandbox_starts_total", "counter", "Sandboxes that were registered.", s.starts.Load())
	f.one("sallyport_agent_requests_refused_total", "counter", "Requests on the agent's socket that were refused.", s.refused.Load())
	f.one("sallyport_events_total", "counter", "Events written to the log.", c.events)
	f.head("sallyport_events_lost_total", "counter", "Attempts without a record, by where they were lost.")
	for _, where := range []string{"audit-log", "kernel", "rate", "reported"} {
		fmt.Fprintf(w, "sallyport_events_lost_total{where=%q} %d\n", where, c.lost[where])
	}
	f.head("sallyport_denials_total", "counter", "Attempts that the policy refused.")
	for _, k := range slices.SortedFunc(maps.Keys(c.denied), func(a, b deniedKey) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.operation, b.operation), cmp.Compare(a.reason, b.reason))
	}) {
		fmt.Fprintf(w, "sallyport_denials_total{layer=%q,operation=%q,reason=%q} %d\n", k.layer, k.operation, k.reason, c.denied[k])
	}
	f.head("sallyport_system_denials_total", "counter", "Attempts that the host's own permissions refused.")
	for _, op := range slices.Sorted(maps.Keys(c.system)) {
		fmt.Fprintf(w, "sallyport_system_denials_total{operation=%q} %d\n", op, c.system[op])
	}
	f.one("sallyport_audit_bytes", "gauge", "Bytes in the logs of users who had a sandbox.", s.logs.bytes())
}
