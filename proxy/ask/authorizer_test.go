package ask

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func authorized(t testing.TB, p policy.Authorizer) *Broker {
	t.Helper()
	if p.Timeout == 0 {
		p.Timeout = 20 * time.Second
	}
	if p.TTL == 0 {
		p.TTL, p.NegativeTTL = time.Minute, time.Minute
	}
	b := New(Config{Session: "a1", Authorizer: NewAuthorizer(&p)})
	t.Cleanup(b.Close)
	return b
}

func script(t testing.TB, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authorize")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"/bin/sh", path}
}

func TestAProgramDecides(t *testing.T) {
	b := authorized(t, policy.Authorizer{Exec: script(t, `read line
case $line in *'"host":"good.example"'*) echo '{"verdict":"allow","decision_id":"p1"}';; *) echo '{"verdict":"deny","reason":"not good"}';; esac`)})
	if d := <-asked(t, b, "good.example:443"); !d.Allowed() || d.ID != "p1" || d.Reason != event.AuthorizerAnswer {
		t.Errorf("%+v", d)
	}
	if d := <-asked(t, b, "bad.example:443"); d.Allowed() || d.Text != "not good" || d.Verdict != event.AskDenied {
		t.Errorf("%+v", d)
	}
}

func TestAnAuthorizerThatFailsRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"says nothing":             `cat >/dev/null`,
		"fails":                    `echo '{"verdict":"allow"}'; exit 1`,
		"crashes":                  `kill -SEGV $$`,
		"garbage":                  `echo allow`,
		"two answers":              `echo '{"verdict":"allow"}'; echo '{"verdict":"deny"}'`,
		"an answer to another":     `echo '{"id":"0","verdict":"allow"}'`,
		"too much":                 `yes '{"verdict":"allow"}'`,
		"hostile words":            `printf '{"verdict":"deny","reason":"\033[2J"}'`,
		"asks, with nobody to ask": `echo '{"verdict":"ask"}'`,
	} {
		t.Run(name, func(t *testing.T) {
			b := authorized(t, policy.Authorizer{Exec: script(t, text)})
			if d := <-asked(t, b, "good.example:443"); d.Allowed() {
				t.Errorf("%+v", d)
			}
		})
	}
	for name, a := range map[string]policy.Authorizer{
		"no program":   {Exec: []string{"/no/such/program"}},
		"no socket":    {Unix: "/no/such/socket"},
		"no service":   {HTTP: "http://127.0.0.1:1/"},
		"a wrong name": {HTTP: "http://\x7f/"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := <-asked(t, authorized(t, a), "good.example:443"); d.Allowed() || d.Reason != event.Unanswered {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestAnAuthorizerThatHangsIsEndedWithAllItStarted(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	b := authorized(t, policy.Authorizer{Exec: script(t, `sleep 600 & echo $! >`+pidFile+`.new; mv `+pidFile+`.new `+pidFile+`; wait`), Timeout: 5 * time.Second})
	if d := <-asked(t, b, "good.example:443"); d.Allowed() || d.Reason != event.Unanswered || !strings.Contains(d.Text, "5s") {
		t.Errorf("%+v", d)
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatalf("it was ended before it had started anything: %v", err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	eventually(t, "end of what it started", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && strings.Contains(string(stat), ") Z ")
	})
}

func TestAServiceDecides(t *testing.T) {
	var got map[string]Request
	answer, status := "", 200
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		got = nil
		json.NewDecoder(q.Body).Decode(&got)
		if status != 200 {
			w.Header().Set("Location", "/allow")
		}
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer s.Close()
	for _, c := range []struct {
		name, answer string
		status       int
		allowed      bool
		id           string
	}{
		{"a reply", `{"verdict":"allow","decision_id":"h1"}`, 200, true, "h1"},
		{"a result", `{"decision_id":"o1","result":true}`, 200, true, "o1"},
		{"a result that refuses", `{"decision_id":"o2","result":false}`, 200, false, "o2"},
		{"a reply in a result", `{"decision_id":"o3","result":{"verdict":"allow"},"metrics":{}}`, 200, true, "o3"},
		{"no result", `{}`, 200, false, ""},
		{"an error", `{"result":true}`, 500, false, ""},
		{"a redirection", `{"result":true}`, 302, false, ""},
		{"another result", `{"result":"true"}`, 200, false, ""},
		{"much", `{"result":true,"x":"` + strings.Repeat("x", MaxReply) + `"}`, 200, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, status = c.answer, c.status
			d := <-asked(t, authorized(t, policy.Authorizer{HTTP: s.URL}), "good.example:443")
			if d.Allowed() != c.allowed || d.ID != c.id {
				t.Errorf("%+v", d)
			}
			if got["input"].Host != "good.example" || got["input"].Session != "a1" {
				t.Errorf("it got %+v", got)
			}
		})
	}
}

func TestASocketDecides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
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
			line, _ := bufio.NewReader(c).ReadBytes('\n')
			var r Request
			json.Unmarshal(line, &r)
			switch r.Host {
			case "good.example":
				io.WriteString(c, `{"id":"`+r.ID+`","verdict":"allow","decision_id":"u1"}`+"\n")
			case "cut.example":
				io.WriteString(c, `{"verdict":"all`)
			case "hang.example":
				continue
			}
			c.Close()
		}
	}()
	b := authorized(t, policy.Authorizer{Unix: path})
	if d := <-asked(t, b, "good.example:443"); !d.Allowed() || d.ID != "u1" {
		t.Errorf("%+v", d)
	}
	for _, host := range []string{"cut.example:443", "closed.example:443"} {
		if d := <-asked(t, b, host); d.Allowed() || d.Reason != event.Unanswered {
			t.Errorf("%s: %+v", host, d)
		}
	}
	b = authorized(t, policy.Authorizer{Unix: path, Timeout: 50 * time.Millisecond})
	if d := <-asked(t, b, "hang.example:443"); d.Allowed() || d.Reason != event.Unanswered {
		t.Errorf("%+v", d)
	}
}

// counting is an authorizer that says what it is told and counts its calls.
func counting(answer string, ttl, negative time.Duration) (*Authorizer, *atomic.Int64) {
	var calls atomic.Int64
	return &Authorizer{Timeout: 20 * time.Second, TTL: ttl, NegativeTTL: negative,
		Call: func(context.Context, Request) ([]byte, error) {
			calls.Add(1)
			return []byte(answer), nil
		}}, &calls
}

func TestDecisionsServeForTheirTime(t *testing.T) {
	const long = time.Hour
	for _, c := range []struct {
		name, answer  string
		ttl, negative time.Duration
		again         bool
	}{
		{"an allowance", `{"verdict":"allow"}`, long, time.Nanosecond, false},
		{"an allowance, later", `{"verdict":"allow"}`, time.Nanosecond, long, true},
		{"a refusal", `{"verdict":"deny"}`, time.Nanosecond, long, false},
		{"a refusal, later", `{"verdict":"deny"}`, long, time.Nanosecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, calls := counting(c.answer, c.ttl, c.negative)
			b := New(Config{Authorizer: a})
			for range 3 {
				<-asked(t, b, "example.com:443")
			}
			if n := calls.Load(); n != map[bool]int64{true: 3, false: 1}[c.again] {
				t.Errorf("%d calls", n)
			}
			<-asked(t, b, "example.com:80") // another port is another question
			if n := calls.Load(); n != map[bool]int64{true: 4, false: 2}[c.again] {
				t.Errorf("%d calls", n)
			}
		})
	}
	a, _ := counting(`{"verdict":"allow","ttl_s":1}`, long, long)
	a.decide(context.Background(), Request{}, target(t, "example.com:443"))
	if x := a.known[target(t, "example.com:443")]; time.Until(x.until) > time.Second {
		t.Error("its own, shorter time does not count")
	}
}

func TestManyAtOnceAreOneCallAHostAndFewAtOnce(t *testing.T) {
	const hosts, each = 200, 20
	var running, most, calls atomic.Int64
	a := &Authorizer{Timeout: 20 * time.Second, TTL: time.Hour, AtOnce: 4, Call: func(context.Context, Request) ([]byte, error) {
		calls.Add(1)
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		running.Add(-1)
		return []byte(`{"verdict":"allow"}`), nil
	}}
	b := New(Config{Authorizer: a})
	var all []<-chan policy.Decision
	for h := range hosts {
		for range each {
			all = append(all, asked(t, b, "n"+strconv.Itoa(h)+".example:443"))
		}
	}
	for _, d := range all {
		if got := <-d; !got.Allowed() {
			t.Fatalf("%+v", got)
		}
	}
	if calls.Load() != hosts || most.Load() > 4 {
		t.Errorf("%d calls, %d at once", calls.Load(), most.Load())
	}
}

func TestAnAuthorizerCanLeaveItToTheUser(t *testing.T) {
	a, _ := counting(`{"verdict":"ask"}`, time.Hour, time.Hour)
	b := New(Config{Authorizer: a, Asking: true})
	defer b.Close()
	b.Watch(true, false)
	d := asked(t, b, "example.com:443")
	b.Reply(Reply{ID: open(t, b, 1)[0].ID, Verdict: Allow}, "tty")
	if got := <-d; !got.Allowed() || got.Reason != event.UserAnswer {
		t.Errorf("%+v", got)
	}
}
