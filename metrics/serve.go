package metrics

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
)

// NewServer serves the figures at /metrics, with those of the process itself.
func NewServer(from CounterSource) *http.Server {
	r := prometheus.NewRegistry()
	r.MustRegister(NewCollector(from), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 8, Timeout: 10 * time.Second}))
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 15 * time.Second, MaxHeaderBytes: 8 << 10}
}

// Check says what is wrong with a web configuration file, which may name
// certificates and users: see
// https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
func Check(config string) error {
	if err := web.Validate(config); err != nil {
		return fmt.Errorf("read web configuration: %w", err)
	}
	return nil
}

// Serve serves on a listener until the server is closed. config may be empty:
// then there is neither TLS nor a password.
func Serve(l net.Listener, s *http.Server, config string) error {
	flags := &web.FlagConfig{WebConfigFile: &config}
	return web.Serve(l, s, flags, slog.New(slog.DiscardHandler))
}

// WriteTextfile writes the figures where node_exporter's textfile collector reads
// them: a reader sees the old or the new file. Several users of a machine have a
// file each, told apart by a label, for node_exporter refuses the same series
// twice.
func WriteTextfile(path string, uid int, from CounterSource) error {
	r := prometheus.NewRegistry()
	labels := prometheus.Labels{"uid": strconv.Itoa(uid)}
	if err := prometheus.WrapRegistererWith(labels, r).Register(NewCollector(from)); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if err := prometheus.WriteToTextfile(path, r); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}
