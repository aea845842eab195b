package main

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

func TestTheServiceDecidesForASandbox(t *testing.T) {
	log.SetOutput(io.Discard)
	hour := 12
	now := func() time.Time { return time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC) }
	s := httptest.NewServer(handler([]string{"good.example"}, now))
	defer s.Close()
	for _, c := range []struct {
		host   string
		hour   int
		reason string // empty: allowed
	}{
		{"good.example:443", 12, ""},
		{"good.example:443", 3, "not in working hours"},
		{"good.example:80", 12, "only HTTPS"},
		{"bad.example:443", 12, "not a host of ours"},
	} {
		hour = c.hour
		b := ask.New(ask.Config{Authorizer: ask.NewAuthorizer(&policy.Authorizer{
			HTTP: s.URL + "/v1/data/sallyport/allow", Timeout: 20 * time.Second, TTL: time.Minute, NegativeTTL: time.Minute})})
		req, err := policy.ParseNetTarget(c.host)
		if err != nil {
			t.Fatal(err)
		}
		d := b.Ask(context.Background(), ask.Question{Req: req, Kind: ask.KindConnect, Via: "connect"})
		if d.Allowed() != (c.reason == "") || d.Text != c.reason || len(d.ID) < 20 {
			t.Errorf("%s at %d: %+v", c.host, c.hour, d)
		}
	}
}
