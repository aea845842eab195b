// Package authorize tests the examples of authorizers as a sandbox uses them.
package authorize

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

func TestATicketLetsAHostThrough(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "good.example"), []byte("T-1\"2\nmore\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := ask.New(ask.Config{Authorizer: ask.NewAuthorizer(&policy.Authorizer{
		Exec: []string{"./ticket.sh", dir}, Timeout: 20 * time.Second, TTL: time.Minute, NegativeTTL: time.Minute})})
	for host, want := range map[string]string{"good.example:443": "T-12", "bad.example:443": "", "[2001:db8::1]:443": ""} {
		req, err := policy.ParseNetTarget(host)
		if err != nil {
			t.Fatal(err)
		}
		d := b.Ask(context.Background(), ask.Question{Req: req, Kind: ask.KindConnect, Via: "connect"})
		if d.Allowed() != (want != "") || d.ID != want {
			t.Errorf("%s: %+v", host, d)
		}
	}
}
