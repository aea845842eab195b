package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestAMessageArrivesAsItWasSent(t *testing.T) {
	for _, n := range []int{1, packetData - 1, packetData, packetData + 1, 5*packetData + 7, messageMax} {
		want := bytes.Repeat([]byte("x"), n)
		var j joiner
		var got []byte
		packets := cut(want)
		for i, p := range packets {
			whole, err := j.add(p)
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if (whole != nil) != (i == len(packets)-1) {
				t.Fatalf("%d bytes: whole after packet %d of %d", n, i+1, len(packets))
			}
			got = whole
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes became %d", n, len(got))
		}
		if j.begun() != 0 {
			t.Errorf("%d bytes are held after a whole message", j.begun())
		}
	}
}

func TestAMessageWithoutEndIsRefused(t *testing.T) {
	var j joiner
	more := append([]byte{packetMore}, make([]byte, packetData)...)
	var err error
	n := 0
	for ; err == nil && n < 2000; n++ {
		_, err = j.add(more)
	}
	if !errors.Is(err, errTooLarge) || n != messageMax/packetData+1 || j.begun() != 0 {
		t.Errorf("after %d packets: %v, %d bytes held", n, err, j.begun())
	}
	for _, bad := range [][]byte{nil, {}, {packetLast}, {2, 'x'}, append(more, 'x')} {
		if _, err := j.add(bad); err == nil {
			t.Errorf("a packet of %d bytes was taken", len(bad))
		}
	}
}

func TestARequestAsksForOneThing(t *testing.T) {
	for _, bad := range []string{``, `{}`, `{"id":1}`, `null`, `[]`, `{"id":1,"status":{},"end":{}}`, `{"id":1,"status":{},"extra":1}`,
		`{"id":1,"status":{}} {}`, `{"id":1,"update":{},"end":{}}`, `{"id":1,"update":{"env":{}}}`, `{"id":-1,"status":{}}`, `{"id":1,"status":5}`, `{"id":1,"report":{"event":{"layer":"nonsense"}}}`,
		strings.Repeat("[", 20000)} {
		if r, err := decodeRequest([]byte(bad)); err == nil {
			t.Errorf("%.40q was read as %+v", bad, r)
		}
	}
	if r, err := decodeRequest([]byte(`{"id":7,"status":{}}`)); err != nil || r.ID != 7 || r.Status == nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAReportCannotClaimWhatCannotBe(t *testing.T) {
	now := time.Now()
	begun := now.Add(-time.Minute)
	for name, c := range map[string]struct{ first, last, wantFirst, wantLast time.Time }{
		"nothing said":   {time.Time{}, time.Time{}, now, now},
		"the future":     {now.Add(time.Hour), now.Add(time.Hour), now, now},
		"before it was":  {begun.Add(-time.Hour), now, begun, now},
		"the wrong way":  {now, begun, now, now},
		"what can be so": {begun.Add(time.Second), begun.Add(2 * time.Second), begun.Add(time.Second), begun.Add(2 * time.Second)},
	} {
		e := event.Event{First: c.first, Last: c.last, Time: c.first, LostSinceLast: 7, Count: 1 << 60}
		bound(&e, begun, now)
		if !e.First.Equal(c.wantFirst) || !e.Last.Equal(c.wantLast) || !e.Time.Equal(now) || e.LostSinceLast != 0 || e.Count != 1<<32 {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestQuotasAreEachUsersOwn(t *testing.T) {
	q := newQuotas(Limits{Sandboxes: 1, EventsRate: 10, EventsBurst: 2, Connections: 1})
	if err := errors.Join(q.connect(1), q.connect(1), q.connect(2)); err != nil {
		t.Error(err)
	}
	if q.connect(1) == nil {
		t.Error("a connection too many")
	}
	q.disconnect(1)
	if err := q.connect(1); err != nil {
		t.Error(err)
	}
	if q.enter(1, false) != nil || q.enter(1, false) == nil || q.enter(2, false) != nil || q.enter(1, true) != nil {
		t.Error("sandboxes are not counted by user")
	}
	now := time.Now()
	got := fmt.Sprint(q.event(1, now), q.event(1, now), q.event(1, now), q.event(2, now),
		q.event(1, now.Add(100*time.Millisecond)), q.event(1, now.Add(100*time.Millisecond)))
	if want := "true true false true true false"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
	if q.hold(1, buffered) != nil || q.hold(1, 1) == nil || q.hold(2, 1) != nil || q.hold(1, -buffered) != nil || q.hold(1, 1) != nil {
		t.Error("bytes are not counted by user")
	}
	for uid := range uint32(3000) { // who has nothing is forgotten
		_ = q.connect(uid + 10)
		q.disconnect(uid + 10)
	}
	if n := len(q.users); n > 1100 {
		t.Errorf("%d users are remembered", n)
	}
}

func TestTheSocketIsWhereTheEnvironmentSays(t *testing.T) {
	for _, c := range []struct {
		value string
		set   bool
		want  string
	}{{"", false, DefaultSocket}, {"", true, ""}, {"/tmp/x", true, "/tmp/x"}} {
		if got := SocketPath(func(string) (string, bool) { return c.value, c.set }); got != c.want {
			t.Errorf("%q, %v: %q, want %q", c.value, c.set, got, c.want)
		}
	}
}

func TestARefusalIsKnownByItsKind(t *testing.T) {
	b, err := json.Marshal(message{ID: 1, Refusal: refuse("do this", "no")})
	if err != nil {
		t.Fatal(err)
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	var r *Refusal
	if !errors.As(error(m.Refusal), &r) || !errors.Is(m.Refusal, ErrRefused) || r.Hint != "do this" {
		t.Errorf("%+v", m.Refusal)
	}
}
