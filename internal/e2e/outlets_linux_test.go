package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// syslogServer keeps what it gets.
func syslogServer(t *testing.T) (url string, got func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := c.Read(b)
					if n > 0 {
						all <- string(b[:n])
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	text := ""
	return "tcp://" + l.Addr().String(), func() string {
		for {
			select {
			case s := <-all:
				text += s
			default:
				return text
			}
		}
	}
}

func TestARunsRecordIsCarriedOn(t *testing.T) {
	h := newHome(t)
	url, got := syslogServer(t)
	h.mkdir("metrics")
	h.policy = h.write("policy.yaml", fmt.Sprintf("audit: {syslog: %q, textfile: %q}\n", url, h.dir+"/metrics"))
	for range 2 {
		h.run("curl", "-s", "http://denied.test/")
	}
	files, _ := filepath.Glob(h.dir + "/metrics/*.prom")
	if len(files) != 1 {
		t.Fatalf("textfiles: %q", files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`sallyport_sandbox_starts_total{outcome="started",uid="`, `reason="not-allowed"`, "sallyport_sandboxes{"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.Contains(string(text), `outcome="started",uid="`+fmt.Sprint(h.uid)+`"} 2`) {
		t.Errorf("not two starts in\n%s", text)
	}
	waitFor(t, "the events", func() bool { return strings.Count(got(), "denied.test") >= 2 })
}

func TestARunDoesNotWaitForWhoTakesItsRecord(t *testing.T) {
	h := newHome(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // which never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.policy = h.write("policy.yaml", fmt.Sprintf("audit: {otlp: \"http://%s\"}\n", l.Addr()))
	start := time.Now()
	h.run("curl", "-s", "http://denied.test/")
	if took := time.Since(start); took > slow {
		t.Errorf("it took %v", took)
	}
}

func TestWithoutTheProgramThatCarriesItOnARunSaysSo(t *testing.T) {
	h := newHome(t)
	h.binary = h.ownBinary() // alone in its directory
	h.policy = h.write("policy.yaml", "audit: {syslog: \"tcp://127.0.0.1:1\"}\n")
	if r := h.run("true").ok(); !strings.Contains(r.err, "not sent on, only recorded") || !strings.Contains(r.err, "install sallyport-agent") {
		t.Errorf("it says %s", r.err)
	}
}
