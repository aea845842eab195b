package sallyport

import (
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestOnlyWhatARuleCouldAllowIsSuggested(t *testing.T) {
	env := policy.Env{Home: "/home/u", Cwd: "/home/u/w", Exe: "/usr/bin/sallyport", ConfigDir: "/home/u/.config/sallyport",
		StateDir: "/home/u/.local/state/sallyport", CacheDir: "/home/u/.cache/sallyport"}
	p, err := policy.New(env, policy.FromFlags(policy.Flags{{Name: policy.FlagAllowDomain, Value: "ok.example.com:443"}}))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		op     event.Operation
		object event.Object
		want   string
	}{
		"a name":             {event.NetConnect, event.Object{Host: "no.example.com", Port: 443}, "--allow-domain no.example.com (network.allowedDomains: [no.example.com])"},
		"a look-up":          {event.NetDNS, event.Object{Host: "no.example.com", Addr: "198.18.0.1", Port: 53}, "--allow-domain no.example.com (network.allowedDomains: [no.example.com])"},
		"an allowed name":    {event.NetConnect, event.Object{Host: "ok.example.com", Port: 443}, ""}, // refused for another reason
		"a special address":  {event.NetConnect, event.Object{Addr: "169.254.169.254", Port: 80}, ""},
		"UDP":                {event.NetUDP, event.Object{Addr: "1.1.1.1", Port: 443}, ""},
		"no host":            {event.NetSocket, event.Object{Socket: "AF_VSOCK"}, ""},
		"not a name at all":  {event.NetConnect, event.Object{Host: "a b", Port: 443}, ""},
		"a file of any kind": {event.FileWrite, event.Object{Path: "/etc/passwd"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := suggest(p, event.Event{Operation: test.op, Object: test.object}); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
