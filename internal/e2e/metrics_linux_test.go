package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/crypto/bcrypt"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/metrics"
)

// freeAddr is an address of loopback on which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// parse reads an exposition.
func parse(t *testing.T, r io.Reader) map[string]float64 {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r)
	if err != nil {
		t.Fatalf("not an exposition: %v", err)
	}
	list := make([]*dto.MetricFamily, 0, len(families))
	for _, f := range families {
		list = append(list, f)
	}
	return samples(list)
}

// samples are values by name and labels, but for the user's number.
func samples(families []*dto.MetricFamily) map[string]float64 {
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				if l.GetName() != "uid" {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			slices.Sort(labels)
			out[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

// scrape asks an agent as Prometheus does.
func scrape(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 200 {
		t.Fatalf("scrape: %s", r.Status)
	}
	return parse(t, r.Body)
}

// added is a source whose counts are the sum of a directory's logs.
type added struct{ event.Counts }

func (a added) Figures() event.Figures { return event.Figures{Counts: a.Counts} }

// equalTheLogs compares the counters that are made of events with what all lines
// of some logs add up to.
func equalTheLogs(t *testing.T, got map[string]float64, dir string) (n uint64) {
	t.Helper()
	n, differ := compareWithLogs(t, got, dir)
	for _, d := range differ {
		t.Error(d)
	}
	return n
}

// compareWithLogs gives the number of events in the logs, and what differs.
func compareWithLogs(t *testing.T, got map[string]float64, dir string) (n uint64, differ []string) {
	t.Helper()
	var sum added
	for r, err := range audit.Query(dir, audit.Filter{}) {
		if err != nil {
			t.Errorf("read the log: %v", err)
			continue
		}
		sum.Add(&r.Event)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.NewCollector(sum))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := samples(families)
	for _, list := range []map[string]float64{want, got} {
		for key := range list {
			name, _, _ := strings.Cut(key, "{")
			switch name {
			case "sallyport_denials_total", "sallyport_system_denials_total", "sallyport_decisions_total", "sallyport_events_total",
				"sallyport_events_lost_total", "sallyport_metadata_denials_total", "sallyport_ask_total":
				if got[key] != want[key] {
					differ = append(differ, fmt.Sprintf("%s is %v, in the log are %v", key, got[key], want[key]))
				}
			}
		}
	}
	return sum.Events, differ
}

// everyDenial runs what is refused in every way there is.
func (h *home) everyDenial() {
	h.t.Helper()
	h.corpus() // under a policy of its own
	h.usePolicy("network: {allowedDomains: [allowed.test, rebind.test, metadata.test, '*.allowed.test']}\n")
	h.sh(`for u in http://allowed.test/ http://denied.test/ http://93.184.215.15/ http://rebind.test/ http://metadata.test/ http://169.254.169.254/ http://allowed.test:81/ http://nowhere.allowed.test/; do
	curl -s -m 10 -o /dev/null $u; done
echo x >/dev/udp/93.184.215.15/99; cat ~/.ssh/id_ed25519; unshare -U true; exit 0`)
}

func TestCountersEqualTheLogWhoeverIsKilled(t *testing.T) {
	addr := freeAddr(t)
	m := newMachine(t, "--metrics-listen", addr)
	h := m.home()
	h.everyDenial()
	waitFor(t, "the proxy's numbers", func() bool { return scrape(t, addr)["sallyport_proxy_bytes_total{direction=in}"] > 0 })
	equal := func() (got map[string]float64) {
		t.Helper()
		time.Sleep(1200 * time.Millisecond) // losses are said once a second, or a little later
		var differ []string
		for end := time.Now().Add(slow); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			got = scrape(t, addr)
			var n uint64
			if n, differ = compareWithLogs(t, got, m.state()+"/audit"); len(differ) == 0 && n >= 20 {
				return got
			}
		}
		t.Errorf("counters and log do not come together: %q", differ)
		return got
	}
	before := equal()

	flood := `i=0; while [ $i -lt 3000 ]; do echo x >/etc/denied-$i; i=$((i+1)); done; touch done; sleep 60`
	b := h.start("killed", "sh", "-c", flood)
	time.Sleep(300 * time.Millisecond)
	m.kill() // in the middle of it
	time.Sleep(200 * time.Millisecond)
	m.start()
	waitFor(t, "the flood is over", func() bool { return exists(h.work + "/done") })
	equal()
	if err := b.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	waitFor(t, "its end", func() bool { return scrape(t, addr)["sallyport_sandboxes{}"] == 0 })
	after := equal()
	for key, n := range before {
		if strings.HasPrefix(key, "sallyport_denials_total") && after[key] < n {
			t.Errorf("%s went back from %v to %v", key, n, after[key])
		}
	}
	sum := 0.0
	for key, n := range after {
		if strings.HasPrefix(key, "sallyport_denials_total") || strings.HasPrefix(key, "sallyport_events_lost_total") {
			sum += n
		}
	}
	if sum < 3000 {
		t.Errorf("%v denials and losses of more than 3000", sum)
	}
}

func TestTheTextfileEqualsTheLogsWhoeverIsKilled(t *testing.T) {
	h := newHome(t)
	dir := h.mkdir("node")
	h.usePolicy("audit: {textfile: " + dir + "}\nnetwork: {allowedDomains: [allowed.test]}\n")
	name := filepath.Join(dir, fmt.Sprintf("sallyport-%d.prom", h.uid))
	look := func() map[string]float64 {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return parse(t, f)
	}
	h.sh("curl -s http://allowed.test/; getent hosts denied.test; exit 0").ok()
	got := look()
	logs := h.dir + "/.local/state/sallyport/audit"
	equalTheLogs(t, got, logs)
	if got["sallyport_proxy_bytes_total{direction=in}"] == 0 || got["sallyport_sandbox_starts_total{outcome=started}"] != 1 ||
		got["sallyport_sandbox_start_seconds{}"] != 1 || got["sallyport_dns_queries_total{verdict=deny}"] == 0 {
		for _, key := range slices.Sorted(maps.Keys(got)) {
			if got[key] != 0 {
				t.Errorf("%s %v", key, got[key])
			}
		}
	}
	r := h.start("killed", "sh", "-c", "getent hosts denied.test; touch done; sleep 60")
	waitFor(t, "its attempt", func() bool { return exists(h.work + "/done") })
	_ = r.Process.Kill()
	<-r.ended
	h.run("true").ok() // it counts what the other had no time to
	got = look()
	equalTheLogs(t, got, logs)
	if n := got["sallyport_denials_total{layer=dns,operation=net.dns,reason=not-allowed}"]; n != 2 {
		t.Errorf("%v refused look-ups", n)
	}
	if r := h.sh("echo 'sallyport_denials_total 0' >" + name); r.code == 0 {
		t.Error("the command could write the numbers")
	}
}

func TestTheEndpointTakesCertificatesAndPasswords(t *testing.T) {
	addr := freeAddr(t)
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {prometheus: '%s'}\n", dir+"/cert", dir+"/key",
		hash)
	pair := internet.tls.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, b := range map[string][]byte{"cert": cert, "key": key, "config": []byte(config)} {
		if err := os.WriteFile(dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newMachine(t, "--metrics-listen", addr, "--metrics-config", dir+"/config")
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(password string) int {
		req, err := http.NewRequest("GET", "https://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("prometheus", password)
		}
		r, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	if a, b, c := ask(""), ask("wrong"), ask("secret"); a != 401 || b != 401 || c != 200 {
		t.Errorf("without a password %d, with a wrong one %d, with the right one %d", a, b, c)
	}
	if r, err := http.Get("http://" + addr + "/metrics"); err == nil && r.StatusCode == 200 {
		t.Error("it answers without TLS")
	}
}

func TestAScrapeOfManySandboxesIsShortAndQuick(t *testing.T) {
	many := 12
	if long() {
		many = 200
	}
	addr := freeAddr(t)
	m := newMachine(t, "--metrics-listen", addr)
	h := m.home()
	h.everyDenial()
	var homes []*home
	for range (many + 49) / 50 { // a user may have 64
		homes = append(homes, m.homeOf(h.uid-len(homes)-1))
	}
	for i := range many {
		homes[i/50].start(fmt.Sprint("box", i), "sleep", "600")
	}
	got := scrape(t, addr)
	if got["sallyport_sandboxes{}"] != float64(many) {
		t.Errorf("%v sandboxes, want %d", got["sallyport_sandboxes{}"], many)
	}
	if len(got) > 500 {
		t.Errorf("%d series", len(got))
	}
	best := time.Hour
	for range 20 {
		begun := time.Now()
		r, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		if r.Body.Close(); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(begun))
	}
	t.Logf("%d sandboxes: %d series, %s", many, len(got), best)
	if best > 100*time.Millisecond {
		t.Errorf("a scrape takes %s", best)
	}
}
