package otlp

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
)

func list(n int) (out []export.Record) {
	for i := range n {
		now := time.Now()
		out = append(out, export.Record{ID: fmt.Sprintf("u1000.jsonl:%d", i+1), Event: event.Event{
			Seq: uint64(i + 1), Time: now, First: now, Last: now, Count: 1, Verdict: event.Deny, Layer: event.LayerTrace, Operation: event.FileRead,
			Reason: event.PathHidden, Object: event.Object{Path: "/home/u/.ssh/id_\xff\"]\\\n\x1b[2J"}}})
	}
	return out
}

// collector is a receiver of OTLP over HTTP that is made of the protocol's own
// types.
type collector struct {
	got    []*collogs.ExportLogsServiceRequest
	answer func(http.ResponseWriter)
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(strings.NewReader(string(body))); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	req := &collogs.ExportLogsServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(body, req)
	}
	if err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	if c.answer != nil {
		c.answer(w)
		return
	}
	c.got = append(c.got, req)
	w.Header().Set("Content-Type", "application/x-protobuf")
	b, _ := proto.Marshal(&collogs.ExportLogsServiceResponse{})
	w.Write(b)
}

func TestACollectorGetsEventsAsOpenTelemetryLogs(t *testing.T) {
	c := &collector{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	s, err := New(srv.URL, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Send(t.Context(), list(3)); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.got) != 2 || len(c.got[1].ResourceLogs) != 1 || len(c.got[1].ResourceLogs[0].ScopeLogs[0].LogRecords) != 3 {
		t.Fatalf("got %v", c.got)
	}
	r := c.got[0].ResourceLogs[0].ScopeLogs[0].LogRecords[1]
	var body struct {
		Metadata struct{ Product struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(r.Body.GetStringValue()), &body); err != nil || !strings.EqualFold(body.Metadata.Product.Name, "sallyport") {
		t.Errorf("body %q: %v", r.Body, err)
	}
	attrs := map[string]string{}
	for _, a := range r.Attributes {
		attrs[a.Key] = a.Value.GetStringValue()
	}
	if attrs["event.id"] != "u1000.jsonl:2" || attrs["sallyport.verdict"] != "deny" || attrs["sallyport.operation"] != "file.read" ||
		r.SeverityText != "WARN" || r.EventName != "sallyport.file.read" || r.TimeUnixNano == 0 {
		t.Errorf("record %v", r)
	}
	if about := fmt.Sprint(c.got[0].ResourceLogs[0].Resource.Attributes); !strings.Contains(about, "sallyport") || !strings.Contains(about, "1.2.3") {
		t.Errorf("resource %s", about)
	}
}

func TestWhatACollectorAnswersIsTakenForWhatItIs(t *testing.T) {
	partial, err := proto.Marshal(&collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: 2, ErrorMessage: "too old"}})
	if err != nil {
		t.Fatal(err)
	}
	plain := func(code int, head, value, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set(head, value)
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for _, tt := range []struct {
		name    string
		answer  func(http.ResponseWriter)
		refused bool
		later   time.Duration
	}{
		{"a bad request", plain(400, "X", "", "no"), true, 0},
		{"too large", plain(413, "X", "", "no"), true, 0},
		{"taken in part", plain(200, "Content-Type", "application/x-protobuf", string(partial)), true, 0},
		{"no right", plain(401, "X", "", "no"), false, 0},
		{"not there", plain(404, "X", "", "no"), false, 0},
		{"busy", plain(503, "Retry-After", "7", "no"), false, 7 * time.Second},
		{"a portal that says yes to all", plain(200, "Content-Type", "text/html", "<h1>Welcome</h1>"), false, 0},
		{"no protobuf", plain(200, "Content-Type", "application/x-protobuf", "\xff\xff\xff"), false, 0},
		{"an answer without end", plain(200, "Content-Type", "application/x-protobuf", strings.Repeat("x", 2<<20)), false, 0},
		{"a redirect in a circle", plain(302, "Location", "/v1/logs", ""), false, 0},
		{"nothing", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(&collector{answer: tt.answer})
			defer srv.Close()
			s, err := New(srv.URL+"/v1/logs", "1")
			if err != nil {
				t.Fatal(err)
			}
			err = s.Send(t.Context(), list(3))
			if err == nil {
				t.Fatal("it counts as taken")
			}
			if errors.Is(err, export.ErrRefused) != tt.refused {
				t.Errorf("refused: %t: %v", errors.Is(err, export.ErrRefused), err)
			}
			var later *export.LaterError
			if errors.As(err, &later) != (tt.later > 0) || tt.later > 0 && later.After != tt.later {
				t.Errorf("later: %v", err)
			}
		})
	}
}

func TestACollectorThatDoesNotAnswerIsNotWaitedForForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s, err := New("http://"+l.Addr().String(), "1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(ctx, list(1)); err == nil {
		t.Error("taken")
	}
}
