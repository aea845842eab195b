package otlp

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// said keeps what a program says.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.b.String(), text)
}

// TestARealCollectorTakesIt sends to an OpenTelemetry collector, see
// testdata/collector.
func TestARealCollectorTakesIt(t *testing.T) {
	program := os.Getenv("SALLYPORT_COLLECTOR")
	if program == "" {
		t.Skip("SALLYPORT_COLLECTOR names no collector: 'make test-full' builds one")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := fmt.Sprintf(`
receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {debug: {verbosity: detailed}}
service: {telemetry: {metrics: {level: none}}, pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}
`, addr)
	var out said
	cmd := exec.Command(program, "--config", "yaml:"+config)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	wait := func(text string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !out.has(text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %q in\n%s", text, out.b.String())
			}
		}
	}
	wait("Everything is ready")
	s, err := New("http://"+addr, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), list(3)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"u1000.jsonl:3", "SeverityText: WARN", "sallyport.operation: Str(file.read)", "service.version: Str(1.2.3)"} {
		wait(text)
	}
}
