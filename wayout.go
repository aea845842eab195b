package sallyport

import (
	"crypto/tls"
	"net"
	"strconv"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy"
)

// parents gives a proxy the policy's own parents.
func parents(p *policy.Policy) func(policy.NetRequest) *proxy.Parent {
	return func(req policy.NetRequest) *proxy.Parent {
		q, byHostname := p.ParentFor(req)
		if q == nil {
			return nil
		}
		host := q.Host.String()
		parent := &proxy.Parent{
			Addr: net.JoinHostPort(host, strconv.Itoa(int(q.Port))), User: q.User, ByHostname: byHostname,
		}
		if q.TLS {
			parent.TLS = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
		}
		return parent
	}
}
