// Package metrics owns the words in which sallyport speaks to Prometheus: the
// metrics' names, their labels, and the dashboards and alerts that are made of
// them. It turns figures into metrics and counts nothing itself.
//
// Every label value is the name of a value of an enumeration or is compiled in;
// the exceptions are a version, a hash, and the number of the user whose file it
// is. Nothing that a payload, a policy or a name on the network can choose ever
// becomes one.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport/sallyport/internal/event"
)

// CounterSource is what has the figures; it is asked at every scrape.
type CounterSource interface {
	Figures() event.Figures
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sallyport_"+name, help, labels, nil)
}

var (
	denials        = desc("denials_total", "Attempts that the policy refused.", "layer", "operation", "reason")
	systemDenials  = desc("system_denials_total", "Attempts that the host's own permissions refused, not the policy.", "operation")
	metadata       = desc("metadata_denials_total", "Refused attempts to reach a cloud's metadata service.")
	decisions      = desc("decisions_total", "Attempts that are in the record, by what became of them.", "verdict", "operation")
	asked          = desc("ask_total", "Attempts of which the user was asked.", "outcome")
	events         = desc("events_total", "Events written to the log.")
	lost           = desc("events_lost_total", "Attempts of which there is no event, by where they were lost.", "where")
	auditBytes     = desc("audit_bytes", "Bytes of the logs that are being written, and of their predecessors.")
	auditDamaged   = desc("audit_damaged_files", "Logs whose chain is broken.")
	proxyBytes     = desc("proxy_bytes_total", "Bytes that proxies have passed: out, to where the sandbox connected to; in, from there.", "direction")
	proxyOpen      = desc("proxy_connections", "Connections of sandboxes that are open.")
	proxyDecision  = desc("proxy_decision_seconds", "How long it took to decide on a connection.")
	proxyUpstream  = desc("proxy_upstream_errors_total", "Allowed connections that came to nothing.", "reason")
	dnsQueries     = desc("dns_queries_total", "Look-ups by sandboxes.", "verdict")
	sandboxes      = desc("sandboxes", "Sandboxes there are.")
	starts         = desc("sandbox_starts_total", "Sandboxes that were to be started, by what became of it.", "outcome")
	startSeconds   = desc("sandbox_start_seconds", "How long the start of a sandbox took.")
	refused        = desc("agent_requests_refused_total", "Requests on the agent's socket that were refused.")
	tier           = desc("enforcement_tier", "1 for the tier that sandboxes get, 0 for the others.", "tier")
	policyInfo     = desc("policy_info", "The administrator's policy, by the SHA-256 of its files.", "sha256")
	buildInfo      = desc("build_info", "The version of sallyport.", "version")
	programRuns    = desc("bpf_program_runs_total", "Runs of the kernel's programs.", "program")
	programSeconds = desc("bpf_program_seconds_total", "Time spent in the kernel's programs.", "program")
	mapEntries     = desc("bpf_map_entries", "Entries in a table of the kernel's programs.", "map")
	mapCapacity    = desc("bpf_map_capacity", "Entries that a table of the kernel's programs has room for.", "map")
	exportSent     = desc("export_events_total", "Events that somebody else's store has taken.", "to")
	exportLost     = desc("export_lost_total", "Events that were never taken: refused for good, or removed before they were sent.", "to")
	exportFailures = desc("export_failures_total", "Attempts to send events that failed and are repeated.", "to")
	exportBehind   = desc("export_behind_bytes", "Bytes of log that are still to be sent.", "to")
)

// all is for Describe.
var all = []*prometheus.Desc{denials, systemDenials, metadata, decisions, asked, events, lost, auditBytes, auditDamaged,
	proxyBytes, proxyOpen, proxyDecision, proxyUpstream, dnsQueries, sandboxes, starts, startSeconds, refused, tier,
	policyInfo, buildInfo, programRuns, programSeconds, mapEntries, mapCapacity, exportSent, exportLost, exportFailures, exportBehind}

// collector is a prometheus.Collector.
type collector struct{ from CounterSource }

// NewCollector gives what a registry collects from.
func NewCollector(from CounterSource) prometheus.Collector { return collector{from} }

func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range all {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	f := c.from.Figures()
	s := sink{to}
	s.counts(&f.Counts)
	s.traffic(&f.Traffic)
	s.machine(&f)
}

// sink sends metrics.
type sink struct{ to chan<- prometheus.Metric }

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) histogram(d *prometheus.Desc, h event.Durations) {
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range event.DurationBounds() {
		sum += h.Buckets[i]
		buckets[bound] = sum
	}
	s.to <- prometheus.MustNewConstHistogram(d, h.Count, float64(h.Nanos)/1e9, buckets)
}

// each sends one counter for every value of an enumeration, from 0 on.
func each[T ~uint8](s sink, d *prometheus.Desc, names []string, counts map[T]uint64) {
	for i, name := range names {
		s.counter(d, float64(counts[T(i)]), name)
	}
}

func (s sink) counts(c *event.Counts) {
	for k, n := range c.Denied {
		s.counter(denials, float64(n), k.Layer.String(), k.Operation.String(), k.Reason.String())
	}
	each(s, systemDenials, event.Operations(), c.System)
	s.counter(metadata, float64(c.Metadata))
	for k, n := range c.Decisions {
		s.counter(decisions, float64(n), k.Verdict.String(), k.Operation.String())
	}
	allowed, denied, unanswered := outcomes(c)
	s.counter(asked, float64(allowed), "allowed")
	s.counter(asked, float64(denied), "denied")
	s.counter(asked, float64(unanswered), "unanswered")
	s.counter(events, float64(c.Events))
	each(s, lost, event.Losses(), c.Lost)
}

// outcomes finds in the counts what came of asking the user.
func outcomes(c *event.Counts) (allowed, denied, unanswered uint64) {
	for k, n := range c.Decisions {
		switch k.Verdict {
		case event.AskAllowed:
			allowed += n
		case event.AskDenied:
			denied += n
		}
	}
	for k, n := range c.Denied {
		if k.Reason == event.Unanswered {
			unanswered += n
		}
	}
	return allowed, denied - min(denied, unanswered), unanswered
}

func (s sink) traffic(t *event.Traffic) {
	s.counter(proxyBytes, float64(t.BytesIn), "in")
	s.counter(proxyBytes, float64(t.BytesOut), "out")
	s.gauge(proxyOpen, float64(t.Open))
	s.histogram(proxyDecision, t.Decisions)
	each(s, proxyUpstream, event.Upstreams(), t.Upstream)
	s.counter(dnsQueries, float64(t.DNSAllowed), event.Allow.String())
	s.counter(dnsQueries, float64(t.DNSDenied), event.Deny.String())
	each(s, starts, event.Starts(), t.Starts)
	s.histogram(startSeconds, t.StartTimes)
}

func (s sink) machine(f *event.Figures) {
	s.gauge(buildInfo, 1, f.Version)
	for i, name := range event.Tiers() {
		on := 0.0
		if int(f.Tier) == i {
			on = 1
		}
		s.gauge(tier, on, name)
	}
	if f.Policy != "" {
		s.gauge(policyInfo, 1, f.Policy)
	}
	s.gauge(sandboxes, float64(f.Sandboxes))
	s.counter(refused, float64(f.Refused))
	s.gauge(auditBytes, float64(f.LogBytes))
	s.gauge(auditDamaged, float64(f.Damaged))
	for name, p := range f.Programs {
		s.counter(programRuns, float64(p.Runs), name)
		s.counter(programSeconds, p.Time.Seconds(), name)
	}
	for name, m := range f.Maps {
		s.gauge(mapEntries, float64(m.Entries), name)
		s.gauge(mapCapacity, float64(m.Capacity), name)
	}
	for to, e := range f.Exports {
		s.counter(exportSent, float64(e.Sent), to)
		s.counter(exportLost, float64(e.Lost), to)
		s.counter(exportFailures, float64(e.Failures), to)
		s.gauge(exportBehind, float64(e.Behind), to)
	}
}
