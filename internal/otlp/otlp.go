// Package otlp sends the record to an OpenTelemetry collector. It is apart from
// the other ways out because of what comes with it, which is more than the rest
// of the program.
package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
)

// sender sends OpenTelemetry logs over HTTP, by that project's own exporter.
type sender struct {
	exporter *otlploghttp.Exporter
	provider *sdklog.LoggerProvider
	made     *catcher
}

// New gives a Sender to a collector's URL (http://HOST:4318/v1/logs; without
// a path that one is taken). Headers, certificates and a time limit come from the
// OTEL_EXPORTER_OTLP_* variables of the environment, as everywhere.
func New(url, version string) (export.Sender, error) {
	if i := strings.Index(url, "://"); i < 0 || !strings.Contains(strings.TrimSuffix(url[i+3:], "/"), "/") {
		url = strings.TrimSuffix(url, "/") + "/v1/logs"
	}
	ctx := context.Background()
	exporter, err := otlploghttp.New(ctx, otlploghttp.WithEndpointURL(url), otlploghttp.WithRetry(otlploghttp.RetryConfig{}),
		otlploghttp.WithCompression(otlploghttp.GzipCompression), otlploghttp.WithHTTPClient(&http.Client{Transport: judge{http.DefaultTransport}}))
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", url, err)
	}
	made := &catcher{}
	about := resource.NewSchemaless(attribute.String("service.name", "sallyport"), attribute.String("service.version", version))
	return &sender{exporter, sdklog.NewLoggerProvider(sdklog.WithProcessor(made), sdklog.WithResource(about)), made}, nil
}

// catcher takes the records that a logger makes.
type catcher struct{ list []sdklog.Record }

func (c *catcher) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }
func (c *catcher) OnEmit(_ context.Context, r *sdklog.Record) error {
	c.list = append(c.list, r.Clone())
	return nil
}
func (c *catcher) Shutdown(context.Context) error   { return nil }
func (c *catcher) ForceFlush(context.Context) error { return nil }

func (o *sender) Send(ctx context.Context, list []export.Record) error {
	o.made.list = o.made.list[:0]
	logger := o.provider.Logger("github.com/sallyport/sallyport")
	for i := range list {
		r, err := logRecord(&list[i])
		if err != nil {
			return fmt.Errorf("%w: %w", export.ErrRefused, err)
		}
		logger.Emit(ctx, r)
	}
	err := o.exporter.Export(ctx, o.made.list)
	if err != nil {
		return fmt.Errorf("send to collector: %w", err)
	}
	return nil
}

// logRecord is an event as OpenTelemetry has it: the body is OCSF, what is asked
// for most is in attributes beside it.
func logRecord(r *export.Record) (out log.Record, err error) {
	body, err := export.OCSF(r, export.BodyMost)
	if err != nil {
		return out, err
	}
	out.SetEventName("sallyport." + r.Operation.String())
	out.SetTimestamp(r.Last)
	out.SetObservedTimestamp(r.Time)
	severity, text := severityOf(&r.Event)
	out.SetSeverity(severity)
	out.SetSeverityText(text)
	out.SetBody(attribute.StringValue(string(body)))
	add := func(key, value string) {
		if value != "" {
			out.AddAttributes(attribute.String(key, strings.ToValidUTF8(value, "\ufffd")))
		}
	}
	add("event.id", r.ID)
	add("host.name", string(r.Host))
	add("sallyport.verdict", r.Verdict.String())
	add("sallyport.layer", r.Layer.String())
	add("sallyport.operation", r.Operation.String())
	add("sallyport.reason", r.Reason.String())
	add("sallyport.rule", r.Rule)
	add("sallyport.sandbox.id", r.Sandbox.ID)
	add("sallyport.sandbox.name", string(r.Sandbox.Name))
	add("server.address", string(r.Object.Host))
	add("network.peer.address", r.Object.Addr)
	add("file.path", string(r.Object.Path))
	out.AddAttributes(attribute.Int64("sallyport.count", int64(r.Count)), attribute.Int64("sallyport.lost", int64(r.LostSinceLast)))
	if r.Process != nil {
		out.AddAttributes(attribute.Int("process.pid", r.Process.PID))
		add("process.executable.path", string(r.Process.Exe))
	}
	return out, nil
}

func severityOf(e *event.Event) (log.Severity, string) {
	switch {
	case e.Reason == event.Tampered:
		return log.SeverityError, "ERROR"
	case e.Verdict.Denied() && e.Reason != event.System, e.LostSinceLast > 0:
		return log.SeverityWarn, "WARN"
	}
	return log.SeverityInfo, "INFO"
}

// judge says of an answer what the exporter makes too little of: which refusals
// are about what was sent, that only a collector's answer is one, and that what
// it took in part was refused in part.
type judge struct{ to http.RoundTripper }

const answerMost = 1 << 20

func (j judge) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := j.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMost+1))
	resp.Body.Close()
	if err == nil {
		err = verdictOf(resp, body)
	}
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func verdictOf(resp *http.Response, body []byte) error {
	switch code := resp.StatusCode; {
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %s", export.ErrRefused, resp.Status)
	case code < 200 || code > 299:
		err := errors.New(resp.Status)
		if s, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && s > 0 {
			return &export.LaterError{After: time.Duration(s) * time.Second, Err: err}
		}
		return err
	case len(body) > answerMost:
		return errors.New("the answer is too long for a collector's")
	case len(body) == 0:
		return nil
	}
	if t := resp.Header.Get("Content-Type"); !strings.HasPrefix(t, "application/x-protobuf") {
		return fmt.Errorf("the answer is %q, not a collector's", t)
	}
	var answer collogs.ExportLogsServiceResponse
	if err := proto.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the answer is not a collector's: %w", err)
	}
	if n := answer.GetPartialSuccess().GetRejectedLogRecords(); n != 0 {
		return fmt.Errorf("%w: %d of them: %s", export.ErrRefused, n, answer.GetPartialSuccess().GetErrorMessage())
	}
	return nil
}
