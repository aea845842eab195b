package export

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport/sallyport/internal/event"
)

func list(n int) (out []Record) {
	for i := range n {
		r := sample(event.Deny, event.FileRead, event.PathHidden, event.Object{Path: "/home/u/.ssh/id_\xff\"]\\\n\x1b[2J"})
		r.Seq, r.ID = uint64(i+1), fmt.Sprintf("u1000.jsonl:%d", i+1)
		out = append(out, r)
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
	s, err := NewOTLP(srv.URL, "1.2.3")
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
	if p := readSchema(t).problems([]byte(r.Body.GetStringValue())); len(p) > 0 {
		t.Errorf("body %q: %q", r.Body, p)
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
			s, err := NewOTLP(srv.URL+"/v1/logs", "1")
			if err != nil {
				t.Fatal(err)
			}
			err = s.Send(t.Context(), list(3))
			if err == nil {
				t.Fatal("it counts as taken")
			}
			if errors.Is(err, ErrRefused) != tt.refused {
				t.Errorf("refused: %t: %v", errors.Is(err, ErrRefused), err)
			}
			var later *LaterError
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
	for name, make := range map[string]func() (Sender, error){
		"otlp":   func() (Sender, error) { return NewOTLP("http://"+l.Addr().String(), "1") },
		"syslog": func() (Sender, error) { return NewSyslog("tcp://" + l.Addr().String()) },
	} {
		s, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(ctx, list(1)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// receive is a server of syslog over TCP: it gives the messages of one
// connection, read by their lengths.
func receive(c net.Conn) (out []string, err error) {
	r := bufio.NewReader(c)
	for {
		head, err := r.ReadString(' ')
		if err == io.EOF && head == "" {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		n, err := strconv.Atoi(strings.TrimSuffix(head, " "))
		if err != nil {
			return out, err
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return out, err
		}
		out = append(out, string(b))
	}
}

// rfc5424 is SYSLOG-MSG of RFC 5424, as far as these have it.
var rfc5424 = regexp.MustCompile(`^<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z [!-~]{1,255} sallyport [!-~]{1,128} [!-~]{1,32} \[sallyport@32473( [a-z]+="(?:[^"\\\]]|\\["\\\]])*")+\] (\{.*\})$`)

func TestSyslogGetsMessagesOfRFC5424(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type result struct {
		messages []string
		err      error
	}
	got := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		m, err := receive(c)
		c.Close()
		got <- result{m, err}
	}()
	s, err := NewSyslog("tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	records := list(3)
	records[1].ID = `a"]\b`
	records[2].Reason = event.Tampered
	records[2].Object.Path = event.Text(strings.Repeat("\x01", 9000))
	if err := s.Send(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.err != nil || len(r.messages) != 3 {
		t.Fatalf("%d messages: %v", len(r.messages), r.err)
	}
	for i, m := range r.messages {
		parts := rfc5424.FindStringSubmatch(m)
		if parts == nil || len(m) > maxMessage {
			t.Fatalf("not RFC 5424, or too long: %q", m)
		}
		if p := readSchema(t).problems([]byte(parts[len(parts)-1])); len(p) > 0 {
			t.Errorf("%s: %q", m, p)
		}
		if want := []string{"108", "108", "107"}[i]; parts[1] != want {
			t.Errorf("priority %s, want %s", parts[1], want)
		}
	}
}

func TestSyslogThatWasCutOffCountsAsNotTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 100)) // and dies with the rest unread: a reset
			c.Close()
		}
	}()
	s, err := NewSyslog("tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), list(50)); err == nil {
		t.Error("it counts as taken")
	}
}

func TestTargetsThatAreNoneAreRefused(t *testing.T) {
	for _, bad := range []string{"", "x", "udp://h:1", "tcp://h", "tcp://:514", "tcp://h:514/x", "tcp://u@h:514", "://"} {
		if _, err := NewSyslog(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestRsyslogTakesIt sends to a real rsyslogd of the test's own.
func TestRsyslogTakesIt(t *testing.T) {
	path, err := exec.LookPath("rsyslogd")
	if err != nil {
		if path = "/usr/sbin/rsyslogd"; !exists(path) {
			t.Skip("rsyslogd is not installed ('make test-full' installs it)")
		}
	}
	dir := t.TempDir()
	port := freePort(t)
	conf := fmt.Sprintf(`module(load="imtcp")
input(type="imtcp" port="%d" address="127.0.0.1")
template(name="raw" type="string" string="%%syslogtag%%|%%structured-data%%|%%msg%%\n")
action(type="omfile" file="%s/out" template="raw")
`, port, dir)
	if err := os.WriteFile(dir+"/conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-n", "-f", dir+"/conf", "-i", dir+"/pid")
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	s, err := NewSyslog(fmt.Sprintf("tcp://127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	records := list(200)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if err = s.Send(t.Context(), records); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("rsyslogd takes nothing: %v: %s", err, out)
		}
	}
	var lines []string
	for end := time.Now().Add(time.Minute); len(lines) < 200 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(dir + "/out")
		lines = nil
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "sallyport@32473") {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) != 200 {
		t.Fatalf("%d of 200 lines: %s", len(lines), out)
	}
	for i, line := range lines {
		parts := strings.SplitN(strings.TrimSpace(line), "|", 3)
		if !strings.HasPrefix(parts[0], "sallyport[") || !strings.Contains(parts[1], fmt.Sprintf(`id="u1000.jsonl:%d"`, i+1)) || !json.Valid([]byte(parts[2])) {
			t.Fatalf("line %q", line)
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
