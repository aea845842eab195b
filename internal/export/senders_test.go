package export

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

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

func TestASyslogServerThatDoesNotAnswerIsNotWaitedForForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s, err := NewSyslog("tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(ctx, list(1)); err == nil {
		t.Error("taken")
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
