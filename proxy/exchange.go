package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// exchange is one request and its response.
type exchange struct {
	c       *httpConn
	r       *request
	path    string
	upgrade string // the protocol the client may change to, or empty
	watch   *watch
}

var errUpstream = errors.New("the server's answer is not HTTP/1")

// upgradeAllowed decides a change of protocol. False means that the client has
// been answered. HTTP/2 without TLS would carry requests nobody reads: the offer
// is dropped and recorded, and the request goes on, as RFC 9110, section 7.8,
// lets a server do.
func (x *exchange) upgradeAllowed() bool {
	offer := get(x.r.fields, "Upgrade")
	if offer == "" || !hasToken(x.r.fields, "Connection", "upgrade") {
		return true
	}
	t := target{req: x.c.up.req}
	d := builtin("http-upgrade", event.ProtocolDenied)
	if strings.Contains(strings.ToLower(offer), "h2c") {
		if !x.c.toldUpgrade {
			x.c.toldUpgrade = true
			x.c.s.deny(t, d, "the change to HTTP/2 was refused; the request went on as HTTP/1.1")
		}
		return true
	}
	if x.c.s.p.allowsUpgrade(t.req) {
		x.upgrade = strings.Clone(offer)
		return true
	}
	d.Fix = fmt.Sprintf("network.rules: [{host: %s, port: %d, upgrade: allow}]", t.req.Host, t.req.Port)
	x.c.s.refuseHTTP(httpRefusal{http.StatusForbidden, t, d, "a change of protocol to " + offer})
	return false
}

// run sends the request and copies the response. It reports whether the client
// may send another.
func (x *exchange) run() bool {
	up, client := x.c.up, x.c.s.conn
	if up.br == nil {
		up.br = newReader(up.conn)
		up.watch = newWatch(x.c.s.p.cfg.Limits.Idle, func() {
			reset(client)
			reset(up.conn)
		})
	}
	x.watch = up.watch
	keep := keepsAlive(x.r.fields, x.r.minor)
	if err := x.sendHead(keep); err != nil {
		x.failed(err)
		return false
	}
	if x.hasBody() {
		x.c.s.readWithin(0)
	}
	x.r.fields, x.r.target, x.path = nil, "", "" // a long head is not kept while the server thinks
	sent := x.startBody()
	resp, err := x.response()
	if err != nil {
		x.failed(err)
		x.stopBody(sent)
		return false
	}
	if resp.status == http.StatusSwitchingProtocols {
		x.switchProtocol(resp, sent)
		return false
	}
	keep = keep && x.delimited(resp)
	if err := x.answer(resp, keep); err != nil {
		x.stopBody(sent)
		reset(client) // a cut response must not look like a whole one
		return false
	}
	if !x.bodyDone(sent) {
		keep = false
	}
	if keep && !keepsAlive(resp.fields, resp.minor) {
		// The server ends the connection. The client of a proxy can go on.
		keep = !x.c.fixed
		x.c.closeUpstream()
	}
	return keep
}

// sendHead writes the request head anew.
func (x *exchange) sendHead(keep bool) error {
	b := make([]byte, 0, headRoom)
	b = append(append(append(b, x.r.method...), ' '), x.path...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = appendField(b, "Host", x.host())
	b = endToEnd(b, x.r.fields)
	b = appendFraming(b, x.r.body)
	switch {
	case x.upgrade != "":
		b = appendField(b, "Connection", "Upgrade")
		b = appendField(b, "Upgrade", x.upgrade)
	case !keep:
		b = appendField(b, "Connection", "close")
	}
	return x.write(x.c.up.conn, append(b, "\r\n"...), true)
}

// headRoom is enough for most heads.
const headRoom = 1024

func appendFraming(b []byte, body body) []byte {
	switch {
	case body.chunked:
		return appendField(b, "Transfer-Encoding", "chunked")
	case body.length >= 0:
		return appendField(b, "Content-Length", strconv.FormatInt(body.length, 10))
	}
	return b
}

// host is the Host to ask for: the one that was decided, in its one form.
func (x *exchange) host() string {
	req := x.c.up.req
	host := req.Host.String()
	if req.Host.IsAddr() && x.c.fixed {
		// A name that may be connected to may be asked for at an allowed address.
		if h, _ := x.r.host(); h != "" {
			if got, err := parseAuthority(h, req.Port); err == nil {
				host = got.Host.String()
			}
		}
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if req.Port != 80 {
		host += ":" + strconv.Itoa(int(req.Port))
	}
	return host
}

// write writes and counts.
func (x *exchange) write(to stream, b []byte, out bool) error {
	x.watch.touch()
	n, err := to.Write(b)
	if out {
		x.c.s.p.count.bytesOut.Add(uint64(n))
	} else {
		x.c.s.p.count.bytesIn.Add(uint64(n))
	}
	return err
}

func (x *exchange) hasBody() bool { return x.r.body.chunked || x.r.body.length > 0 }

// startBody copies the request's body beside the response, which may come
// first: a 100, or a refusal.
func (x *exchange) startBody() <-chan error {
	sent := make(chan error, 1)
	if !x.hasBody() {
		sent <- nil
		return sent
	}
	s := x.c.s
	b := bodyCopy{
		dst: x.c.up.conn, src: s.conn, br: s.br, body: x.r.body, mem: &s.p.mem,
		moved: &s.p.count.bytesOut, watch: x.watch, maxTrailer: s.p.cfg.Limits.MaxHead,
	}
	go func() {
		defer func() {
			if v := recover(); v != nil {
				s.p.panicked(v)
				sent <- errors.New("internal error")
			}
		}()
		err := b.run()
		if err != nil {
			// The server waits for a body that will not come whole, or has gone: its
			// answer, if it gave one, can still be read.
			b.dst.CloseWrite()
		}
		sent <- err
	}()
	return sent
}

// bodyDone reports whether the whole request went out. A server that answers
// early is given a moment, since the answer can overtake the news.
func (x *exchange) bodyDone(sent <-chan error) bool {
	select {
	case err := <-sent:
		return err == nil
	default:
	}
	select {
	case err := <-sent:
		return err == nil
	case <-time.After(sniffWait):
		x.stopBody(sent)
		return false
	}
}

// stopBody ends a body copy that nobody waits for any more.
func (x *exchange) stopBody(sent <-chan error) {
	select {
	case <-sent:
	default:
		x.c.s.conn.SetReadDeadline(longAgo)
		x.c.up.conn.SetWriteDeadline(longAgo)
		<-sent
		x.c.s.conn.SetReadDeadline(never)
	}
}

// response reads up to the final response head, passing 1xx on.
func (x *exchange) response() (*response, error) {
	for range 16 { // no server has so many words before its answer
		head, err := readHead(x.c.up.br, x.c.s.p.cfg.Limits.MaxHead, &x.c.s.p.mem)
		x.watch.touch()
		if err != nil {
			return nil, err
		}
		resp, err := parseResponse(head)
		if err != nil {
			return nil, errors.Join(errUpstream, err)
		}
		switch {
		case resp.status == http.StatusSwitchingProtocols && x.upgrade == "":
			return nil, errors.Join(errUpstream, errors.New("101 without being asked"))
		case resp.status >= 200 || resp.status == http.StatusSwitchingProtocols:
			return resp, nil
		case x.r.minor == 0:
			continue
		}
		b := endToEnd(appendStatus(nil, resp.status, resp.reason), resp.fields)
		if err := x.write(x.c.s.conn, append(b, "\r\n"...), false); err != nil {
			return nil, err
		}
	}
	return nil, errUpstream
}

// bodyless reports whether a response has no body whatever its fields say
// (RFC 9112, section 6.3).
func (x *exchange) bodyless(r *response) bool {
	return x.r.method == http.MethodHead || r.status == http.StatusNoContent || r.status == http.StatusNotModified
}

// delimited reports whether the client can tell where the response ends without
// the end of the connection.
func (x *exchange) delimited(r *response) bool {
	switch {
	case x.bodyless(r):
		return true
	case r.body.chunked:
		return x.r.minor > 0 // HTTP/1.0 knows no chunks
	}
	return r.body.length >= 0
}

// answer copies the final response.
func (x *exchange) answer(r *response, keep bool) error {
	b := appendStatus(make([]byte, 0, headRoom), r.status, r.reason)
	b = endToEnd(b, r.fields)
	framing := r.body
	if framing.chunked && x.r.minor == 0 || r.status == http.StatusNoContent {
		framing = body{length: -1}
	}
	b = appendFraming(b, framing)
	switch {
	case !keep:
		b = appendField(b, "Connection", "close")
	case x.r.minor == 0:
		b = appendField(b, "Connection", "keep-alive")
	}
	b = append(b, "\r\n"...)
	s, up := x.c.s, x.c.up
	if x.bodyless(r) {
		return x.write(s.conn, b, false)
	}
	c := bodyCopy{
		head: b, dst: s.conn, src: up.conn, br: up.br, body: r.body, toEnd: true,
		plain: x.r.minor == 0, mem: &s.p.mem, moved: &s.p.count.bytesIn, watch: x.watch, maxTrailer: s.p.cfg.Limits.MaxHead,
	}
	return c.run()
}

// failed tells the client that there will be no answer.
func (x *exchange) failed(err error) {
	t := target{req: x.c.up.req}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	x.c.s.p.count.upstreamError(err)
	x.c.up.entry.note("the server gave no answer: " + err.Error())
	x.c.s.lastWords(badGateway(t, err))
}

// switchProtocol passes the 101 on; the rest of the connection is a tunnel.
func (x *exchange) switchProtocol(r *response, sent <-chan error) {
	s, up := x.c.s, x.c.up
	if err := <-sent; err != nil {
		return
	}
	b := appendStatus(nil, r.status, r.reason)
	b = appendField(b, "Connection", "Upgrade")
	b = appendField(b, "Upgrade", get(r.fields, "Upgrade"))
	b = append(endToEnd(b, r.fields), "\r\n"...)
	early, _ := up.br.Peek(up.br.Buffered())
	b = append(b, early...)
	freeReader(up.br)
	up.br = nil
	if x.write(s.conn, b, false) != nil || s.forward(up.conn, nil) != nil {
		return
	}
	x.watch.stop()
	(&relay{p: s.p, client: s.conn, upstream: up.conn}).run()
}
