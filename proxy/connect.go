package proxy

import (
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// serveConnect serves a CONNECT request: the rest of the connection is a tunnel.
func (s *session) serveConnect(r *request) {
	req, err := policy.ParseNetTarget(strings.Clone(r.target))
	if err != nil {
		s.refuseHTTP(httpRefusal{400, target{raw: r.target}, builtin("connect-target", event.NameInvalid), err.Error()})
		return
	}
	t := target{req: req}
	if r.body.chunked || r.body.length > 0 {
		s.refuseHTTP(httpRefusal{400, t, builtin("http-request", event.RequestInvalid), "CONNECT with a body"})
		return
	}
	if bad := connectHost(r, req); bad != nil {
		s.refuseHTTP(httpRefusal{400, t, bad.d, bad.detail})
		return
	}
	s.via = viaConnect
	s.pass(req, tunnel{s})
}

// connectHost decides the Host of a CONNECT request, which says the target once
// more; clients leave out the port.
func connectHost(r *request, req policy.NetRequest) *innerError {
	host, err := r.host()
	if err == errTwoHosts {
		return inner(kindHTTP, "http-host", event.RequestInvalid, "%v", err)
	}
	if host == "" {
		return nil
	}
	got, err := parseAuthority(host, req.Port)
	if err != nil {
		return inner(kindHTTP, "http-host", event.NameInvalid, "the Host: %v", err)
	}
	if got != req {
		return inner(kindHTTP, "http-host", event.NameMismatch, "CONNECT to %s with the Host %s", req.Host, got.Host)
	}
	return nil
}

// tunnel is the door of CONNECT.
type tunnel struct{ s *session }

func (c tunnel) opened() error {
	_, err := c.s.conn.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	return err
}

func (c tunnel) refused(t target, d policy.Decision, detail string) {
	c.s.lastWords(forbidden(http.StatusForbidden, d.Reason, explain(t, d, detail)))
}

func (c tunnel) failed(t target, err error) { c.s.lastWords(badGateway(t, err)) }

// badGateway tells that an allowed destination was not reached.
func badGateway(t target, err error) []byte {
	status := http.StatusBadGateway
	if isTimeout(err) {
		status = http.StatusGatewayTimeout
	}
	d := policy.Decision{Reason: event.Unreachable}
	return forbidden(status, d.Reason, "sallyport: allowed, but not reached: "+
		t.object().Host.Printable()+"\n"+outward(err)+"\n")
}
