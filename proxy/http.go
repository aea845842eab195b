package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// httpConn serves plain HTTP/1 requests, one after the other. Every request is
// parsed, decided and written anew, so that what is decided is what goes out.
type httpConn struct {
	s *session
	// fixed: the client believes it has reached the origin; every request goes
	// to req. Else each says where to go.
	fixed    bool
	req      policy.NetRequest
	lastHost string // the last Host that was right for req, by name
	up       *upstream
	// toldUpgrade: a refused h2c upgrade has been recorded; clients offer it with
	// every request and go on without.
	toldUpgrade bool
}

// upstream is a connection to an origin server, used for as long as the requests
// of one client connection go there.
type upstream struct {
	conn  stream
	br    *bufio.Reader // with watch, made with the first request
	watch *watch
	req   policy.NetRequest
	d     policy.Decision
	entry *allowed
}

func (c *httpConn) closeUpstream() {
	u := c.up
	if u == nil {
		return
	}
	c.up = nil
	c.s.p.closeUp(u.conn)
	if u.watch != nil {
		u.watch.stop()
	}
	if u.br != nil {
		freeReader(u.br)
		u.br = nil
	}
	u.entry.end()
}

// httpRefusal is a request that does not go on.
type httpRefusal struct {
	status int
	t      target
	d      policy.Decision
	detail string
}

// refuseHTTP records and answers a refusal, and ends the connection.
func (s *session) refuseHTTP(f httpRefusal) {
	s.deny(f.t, f.d, f.detail)
	s.lastWords(forbidden(f.status, f.d.Reason, explain(f.t, f.d, f.detail)))
}

// serveHTTPProxy serves a client that knows it talks to a proxy.
func (s *session) serveHTTPProxy() {
	s.via = viaHTTP
	(&httpConn{s: s}).serve()
}

// serveHTTPTo serves a client that believes it talks to req.
func (s *session) serveHTTPTo(req policy.NetRequest, d policy.Decision, up stream) {
	c := &httpConn{s: s, fixed: true, req: req, up: &upstream{conn: up, req: req, d: d}}
	c.serve()
}

func (c *httpConn) serve() {
	defer c.closeUpstream()
	for {
		r, ok := c.next()
		if !ok {
			return
		}
		if !c.admitHTTP(r) {
			return
		}
		if r.method == http.MethodConnect && !c.fixed {
			c.closeUpstream()
			c.s.serveConnect(r)
			return
		}
		path, ok := c.route(r)
		if !ok {
			return
		}
		x := exchange{c: c, r: r, path: path}
		if !x.upgradeAllowed() {
			return
		}
		if c.up.entry == nil {
			c.up.entry = c.s.allow(target{req: c.up.req}, c.up.d)
		}
		c.s.p.count.requests.Add(1)
		if !x.run() {
			c.s.conn.Close()
			return
		}
	}
}

// next waits for a request and reads its head. Where it gives none, the
// connection is closed.
func (c *httpConn) next() (*request, bool) {
	s := c.s
	s.readWithin(s.p.cfg.Limits.KeepAlive)
	err := s.await()
	br := s.reader()
	if err == nil {
		_, err = br.Peek(1)
	}
	if err != nil {
		c.gone()
		return nil, false
	}
	if b, _ := br.Peek(br.Buffered()); !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
		s.readWithin(s.p.cfg.Limits.HeadTimeout) // it has not come whole
	}
	skipEmptyLine(br)
	head, err := readHead(br, s.p.cfg.Limits.MaxHead, &s.p.mem)
	var r *request
	if err == nil {
		r, err = parseRequest(head)
	}
	if err == nil {
		return r, true
	}
	c.malformed(err)
	return nil, false
}

// malformed answers a head that is none.
func (c *httpConn) malformed(err error) {
	f := httpRefusal{http.StatusBadRequest, target{}, builtin("http-request", event.RequestInvalid), err.Error()}
	if c.fixed {
		f.t.req = c.req
	}
	var bad headError
	switch {
	case errors.Is(err, errMemory):
		f.status, f.d = http.StatusServiceUnavailable, builtin("memory-limit", event.LimitExceeded)
	case errors.Is(err, errHeadTooLong):
		f.status = http.StatusRequestHeaderFieldsTooLarge
	case isTimeout(err):
		f.status = http.StatusRequestTimeout
	case !errors.As(err, &bad):
		c.gone()
		return
	}
	c.s.refuseHTTP(f)
}

// gone ends a connection whose client has gone, or asks no more. One that was
// dialled and never used is recorded all the same.
func (c *httpConn) gone() {
	if c.up != nil && c.up.entry == nil {
		c.up.entry = c.s.allow(target{req: c.up.req}, c.up.d)
	}
	c.s.conn.Close()
}

// route finds the upstream of a request and the path to ask it for. Where it
// gives none, the client has been answered.
func (c *httpConn) route(r *request) (string, bool) {
	if c.fixed {
		return c.routeFixed(r)
	}
	authority, path, ok := splitAbsolute(r.target)
	if !ok && c.s.ends.Proto == "unix" && strings.HasPrefix(r.target, "/") {
		// A client told to use a unix socket does not know that it is a proxy's.
		if host, err := r.host(); err == nil && host != "" {
			authority, path, ok = host, r.target, true
		}
	}
	if !ok {
		c.s.refuseHTTP(httpRefusal{http.StatusBadRequest, target{raw: authority},
			builtin("http-request", event.RequestInvalid),
			"a proxy is asked with http://host/path or CONNECT host:port"})
		return "", false
	}
	req, err := parseAuthority(authority, 80)
	if err != nil {
		c.s.refuseHTTP(httpRefusal{http.StatusBadRequest, target{raw: authority},
			builtin("http-target", event.NameInvalid), err.Error()})
		return "", false
	}
	if bad := c.checkRequestHost(r, req); bad != nil {
		c.s.refuseHTTP(httpRefusal{http.StatusForbidden, target{req: req}, bad.d, bad.detail})
		return "", false
	}
	return path, c.reach(req)
}

// routeFixed takes origin-form, and absolute-form where it says the same.
func (c *httpConn) routeFixed(r *request) (string, bool) {
	refuse := func(bad *innerError) (string, bool) {
		c.s.refuseHTTP(httpRefusal{http.StatusForbidden, target{req: c.req}, bad.d, bad.detail})
		return "", false
	}
	if bad := c.checkRequestHost(r, c.req); bad != nil {
		return refuse(bad)
	}
	if strings.HasPrefix(r.target, "/") || r.target == "*" {
		return r.target, c.reach(c.req)
	}
	authority, path, ok := splitAbsolute(r.target)
	if !ok {
		return refuse(inner(kindHTTP, "http-request", event.RequestInvalid, "%s %s", r.method, r.target))
	}
	if bad := c.s.p.checkHost(c.req, authority); bad != nil {
		return refuse(bad)
	}
	return path, c.reach(c.req)
}

// checkRequestHost decides the Host of a request that goes to req.
func (c *httpConn) checkRequestHost(r *request, req policy.NetRequest) *innerError {
	host, err := r.host()
	if err != nil {
		return inner(kindHTTP, "http-host", event.RequestInvalid, "%v", err)
	}
	if c.fixed {
		if host == c.lastHost {
			return nil
		}
		bad := c.s.p.checkHost(req, host)
		if bad == nil && !req.Host.IsAddr() {
			c.lastHost = strings.Clone(host)
		}
		return bad
	}
	// The authority has been decided; the Host must say the very same.
	if host == "" {
		return nil
	}
	if got, err := parseAuthority(host, 80); err != nil || got != req {
		return inner(kindHTTP, "http-host", event.NameMismatch, "the Host is not that of the request, %s", req.Host)
	}
	return nil
}

// splitAbsolute takes http://authority/path apart. Where it cannot, the first
// result is what should be shown of the target.
func splitAbsolute(s string) (authority, path string, ok bool) {
	const scheme = "http://"
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return s, "", false
	}
	rest := s[len(scheme):]
	if strings.Contains(rest, "#") {
		return s, "", false
	}
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0:
		return rest, "/", rest != ""
	case rest[i] == '?':
		return rest[:i], "/" + rest[i:], i > 0
	}
	return rest[:i], rest[i:], i > 0
}

// reach makes up the upstream for req, the one there is where it will do. Every
// request is decided, since the policy may have changed.
func (c *httpConn) reach(req policy.NetRequest) bool {
	named, known := c.s.p.named(req)
	if c.up != nil {
		if known && named == c.up.req && !stale(c.up.conn) && c.s.p.stillAllowed(named, c.up.d) {
			return true
		}
		c.closeUpstream()
	}
	req, d, conn := c.s.open(req, tunnel{c.s})
	if conn == nil {
		return false
	}
	c.up = &upstream{conn: conn, req: req, d: d}
	return true
}
