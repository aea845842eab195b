package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prom is a real Prometheus of a test's own.
type prom struct {
	t    *testing.T
	addr string
}

func newPrometheus(t *testing.T, target string) *prom {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed ('make test-full' installs it)")
	}
	dir, p := t.TempDir(), &prom{t, freeAddr(t)}
	alerts, err := filepath.Abs("../../metrics/alerts/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n- job_name: sallyport\n  static_configs: [{targets: ['%s']}]\n", alerts, target)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--config.file", dir+"/config.yml", "--storage.tsdb.path", dir+"/data", "--web.listen-address", p.addr, "--log.level", "warn")
	said := &strings.Builder{}
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said: %s", said)
		}
	})
	return p
}

// get asks the HTTP API.
func (p *prom) get(path string, query url.Values, into any) error {
	r, err := http.Get("http://" + p.addr + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", query, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// series is how many a query gives.
func (p *prom) series(expr string) (int, error) {
	var data struct{ Result []json.RawMessage }
	err := p.get("/api/v1/query", url.Values{"query": {expr}}, &data)
	return len(data.Result), err
}

// dashboard is what is asked of one of Grafana's.
type dashboard struct {
	Title  string
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// filled is an expression as Grafana sends it.
var filled = strings.NewReplacer("$__rate_interval", "10s", "$__range", "5m", "$instance", ".*")

// syslogSink takes what is sent by syslog, and forgets it.
func syslogSink(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	return "tcp://" + l.Addr().String()
}

func TestEveryPanelOfTheDashboardsShowsData(t *testing.T) {
	addr := freeAddr(t)
	p := newPrometheus(t, addr)
	m := newMachine(t, "--metrics-listen", addr, "--syslog", syslogSink(t))
	h := m.home()
	h.everyDenial()
	files, err := filepath.Glob("../../metrics/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %v", err)
	}
	scrapes := `count_over_time(sallyport_build_info[1m]) >= 4`
	waitFor(t, "four scrapes", func() bool { n, err := p.series(scrapes); return err == nil && n == 1 })
	panels := 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				panels++
				n, err := p.series(filled.Replace(target.Expr))
				if err != nil || n == 0 {
					t.Errorf("%s, %s: %d series of %s: %v", d.Title, panel.Title, n, target.Expr, err)
				}
			}
		}
	}
	if panels < 40 {
		t.Errorf("%d queries", panels)
	}
	p.fires(h)
}

// fires looks whether what was tried raises alerts.
func (p *prom) fires(h *home) {
	p.t.Helper()
	h.sh("cat ~/.ssh/id_ed25519; curl -s -m 10 http://metadata.test/; exit 0") // increase sees a second value
	want := []string{"SallyportMetadataService", "SallyportSecretRead"}
	end := time.Now().Add(slow)
	for {
		var data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
		err := p.get("/api/v1/alerts", nil, &data)
		firing := map[string]bool{}
		for _, a := range data.Alerts {
			firing[a.Labels["alertname"]] = a.State == "firing"
		}
		if firing[want[0]] && firing[want[1]] {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("firing %v, want %v: %v", firing, want, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
