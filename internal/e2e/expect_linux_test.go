package e2e

import (
	"maps"
	"os/exec"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// denial is what the record should say of one attempt; empty fields are not
// looked at.
type denial struct {
	op     event.Operation
	host   string
	addr   string
	port   uint16
	reason event.Reason
	rule   string
	count  uint64 // 0: one
}

func (d denial) matches(e event.Event) bool {
	return e.Operation == d.op && e.Reason == d.reason && e.Rule == d.rule &&
		(d.host == "" || string(e.Object.Host) == d.host) && (d.addr == "" || e.Object.Addr == d.addr) &&
		(d.port == 0 || e.Object.Port == d.port)
}

// denied gives the denials of a run.
func (r *result) denied() (events []event.Event, attempts uint64) {
	for _, e := range r.events {
		if e.Verdict.Denied() {
			events = append(events, e)
			attempts += e.Count
		}
	}
	return events, attempts
}

// once wants one attempt in the record, no more and no less, that looks like
// this.
func (r *result) once(want denial) {
	r.t.Helper()
	events, attempts := r.denied()
	if want.count == 0 {
		want.count = 1
	}
	if attempts != want.count {
		r.t.Errorf("%d attempts recorded, want %d", attempts, want.count)
	}
	for _, e := range events {
		if !want.matches(e) {
			r.t.Errorf("want %+v", want)
			break
		}
	}
	if r.t.Failed() {
		r.t.Logf("exit status %d\n%s%s%s", r.code, describe(r.events), r.out, r.err)
	}
}

// nothingDenied wants no denial in the record.
func (r *result) nothingDenied() {
	r.t.Helper()
	if events, n := r.denied(); n != 0 {
		r.t.Errorf("%d attempts denied:\n%s", n, describe(events))
	}
}

// attempts counts the denied attempts at something, "net." or "unix." for instance.
func (r *result) attempts(at string) (n uint64) {
	denied, _ := r.denied()
	for _, e := range denied {
		if strings.HasPrefix(e.Operation.String(), at) {
			n += e.Count
		}
	}
	return n
}

// allowed wants what was let through in the record, and no connection denied. What
// files a client tries besides is its own affair.
func (r *result) allowed(host string, port uint16) {
	r.t.Helper()
	if n := r.attempts("net.") + r.attempts("unix."); n > 0 {
		r.t.Errorf("%d connections denied:\n%s", n, describe(r.events))
	}
	for _, e := range r.events {
		if e.Verdict == event.Allow && string(e.Object.Host) == host && e.Object.Port == port && e.Rule != "" {
			return
		}
	}
	r.t.Errorf("no record of %s port %d:\n%s", host, port, describe(r.events))
}

// says wants a text in what the command printed.
func (r *result) says(text string) *result {
	r.t.Helper()
	if !strings.Contains(r.out, text) {
		r.t.Errorf("%q is not in %q\n%s", text, r.out, r.err)
	}
	return r
}

// silent wants that nothing arrived outside, not a packet.
func silent(t *testing.T) {
	t.Helper()
	if got := internet.arrived(); len(got) != 0 {
		t.Errorf("arrived outside: %v", got)
	}
}

// onlyArrived wants that nothing but this arrived outside; packets and bytes
// are not looked at, nor how often.
func onlyArrived(t *testing.T, want ...string) {
	t.Helper()
	got := internet.all()
	for _, w := range want {
		if got[w] == 0 {
			t.Errorf("%s did not arrive", w)
		}
		delete(got, w)
	}
	maps.DeleteFunc(got, func(what string, _ int) bool {
		to, ok := strings.CutPrefix(what, "bytes ")
		return ok && got["tcp "+to] == 0 && internet.reached("tcp "+to) > 0
	})
	if len(got) != 0 {
		t.Errorf("arrived outside: %v", got)
	}
}

// need skips a test whose program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		cmd := exec.Command("sh", "-c", "command -v "+p)
		cmd.Env = []string{"PATH=" + userPath}
		if cmd.Run() != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

const userPath = "/usr/local/bin:/usr/bin:/bin"

// caFlags pass the far side's certificate authority to the usual clients.
var caFlags = []string{"-e", "SSL_CERT_FILE", "-e", "CURL_CA_BUNDLE", "-e", "NODE_EXTRA_CA_CERTS", "-e", "GIT_SSL_CAINFO"}

// recorded finds the first denial of an operation that matches, and checks that
// it names a rule.
func (r *result) recorded(op event.Operation, match func(event.Event) bool) event.Event {
	r.t.Helper()
	for _, e := range r.events {
		if e.Verdict.Denied() && e.Operation == op && (match == nil || match(e)) {
			if e.Rule == "" || e.Rule == "builtin:" {
				r.t.Errorf("denial of %s without a rule: %+v", op, e)
			}
			return e
		}
	}
	r.t.Fatalf("no denial of %s in the record:\n%s\nstdout:\n%s\nstderr:\n%s", op, describe(r.events), r.out, r.err)
	return event.Event{}
}
