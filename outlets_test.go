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
)

// carrier gives the path of a sallyport beside which this test binary stands as
// the program that carries records on.
func carrier(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err == nil {
		err = os.Symlink(exe, filepath.Join(dir, AgentProgram))
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "sallyport")
}

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
	w.exe = carrier(t)
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
