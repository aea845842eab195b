package main

import (
	"context"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

func TestTheListDecidesAndLeavesTheRestToTheUser(t *testing.T) {
	log.SetOutput(io.Discard)
	dir := t.TempDir()
	file, sock := filepath.Join(dir, "list"), filepath.Join(dir, "s")
	if err := os.WriteFile(file, []byte("# ours\n*.corp.example\n!secret.corp.example # never\ngood.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serve(l, file)
	for _, c := range []struct {
		host    string
		allowed bool
		id      string
		reason  event.Reason
	}{
		{"a.corp.example:443", true, "line 2", event.AuthorizerAnswer},
		{"corp.example:443", true, "", event.UserAnswer},
		{"secret.corp.example:443", false, "line 3", event.AuthorizerAnswer},
		{"good.example:22", true, "line 4", event.AuthorizerAnswer},
		{"other.example:443", true, "", event.UserAnswer},
	} {
		b := ask.New(ask.Config{Asking: true, Authorizer: ask.NewAuthorizer(&policy.Authorizer{
			Unix: sock, Timeout: 20 * time.Second, TTL: time.Minute, NegativeTTL: time.Minute})})
		w := b.Watch(true, false)
		go func() {
			for range w.C {
				for _, r := range b.Pending() {
					b.Reply(ask.Reply{ID: r.ID, Verdict: ask.Allow}, "tty")
					return
				}
			}
		}()
		req, err := policy.ParseNetTarget(c.host)
		if err != nil {
			t.Fatal(err)
		}
		if d := b.Ask(context.Background(), ask.Question{Req: req, Kind: ask.KindConnect, Via: "connect"}); d.Allowed() != c.allowed || d.ID != c.id || d.Reason != c.reason {
			t.Errorf("%s: %+v", c.host, d)
		}
	}
	os.Remove(file)
	b := ask.New(ask.Config{Authorizer: ask.NewAuthorizer(&policy.Authorizer{Unix: sock, Timeout: 20 * time.Second})})
	req, _ := policy.ParseNetTarget("good.example:443")
	if d := b.Ask(context.Background(), ask.Question{Req: req}); d.Allowed() || d.Reason != event.Unanswered {
		t.Errorf("without a list: %+v", d)
	}
}
