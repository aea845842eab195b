package policy

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"golang.org/x/net/http/httpproxy"
)

// ParentProxies are the proxies behind which the network's way out lies. The
// policy decides first; they make nothing reachable that it does not allow.
type ParentProxies struct {
	// HTTP is for port 80, HTTPS for every other; both are set.
	HTTP, HTTPS *ParentProxy
	// ByHostname hands them names: then the addresses behind go unchecked.
	ByHostname bool
	rule       Rule
	direct     func(*url.URL) (*url.URL, error)
}

// ParentProxy is one HTTP proxy.
type ParentProxy struct {
	Host Host
	Port uint16
	TLS  bool
	User *url.Userinfo // nil: none
}

// ParentFor gives the proxy on the way to a destination, nil where there is
// none or the policy's noProxy names the destination.
func (p *Policy) ParentFor(req NetRequest) (parent *ParentProxy, byHostname bool) {
	if p.parents == nil {
		return nil, false
	}
	to := &url.URL{Scheme: "https", Host: netip.AddrPortFrom(req.Host.Addr, req.Port).String()}
	if !req.Host.IsAddr() {
		to.Host = req.Host.Name + ":" + strconv.Itoa(int(req.Port))
	}
	if through, err := p.parents.direct(to); err == nil && through == nil {
		return nil, false
	}
	if req.Port == 80 {
		return p.parents.HTTP, p.parents.ByHostname
	}
	return p.parents.HTTPS, p.parents.ByHostname
}

// parentProxy takes {http, https, noProxy, byHostname}.
func parentProxy(w *walker, n ast.Node) {
	var ps ParentProxies
	// The address means nothing: only whether there is one is asked.
	always := httpproxy.Config{HTTPSProxy: "http://192.0.2.1"}
	before := len(w.errs)
	server := func(where **ParentProxy) shape {
		return func(w *walker, n ast.Node) {
			s, ok := w.text(n)
			if !ok {
				return
			}
			q, err := parseParent(s)
			if err != nil { // says nothing of a password
				w.fail(n, "write http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before the host if it wants them",
					"%s is not the URL of an HTTP proxy: %v", w.key(), err)
				return
			}
			*where = q
		}
	}
	object(map[string]shape{
		"http": server(&ps.HTTP), "https": server(&ps.HTTPS),
		"noProxy":    func(w *walker, n ast.Node) { always.NoProxy, _ = w.text(n) },
		"byHostname": flag(func(_ *File, b bool, _ Rule) { ps.ByHostname = b }),
	})(w, n)
	if len(w.errs) > before {
		return
	}
	switch {
	case ps.HTTP == nil && ps.HTTPS == nil:
		w.fail(n, "", "%s needs http or https", w.key())
		return
	case ps.HTTP == nil:
		ps.HTTP = ps.HTTPS
	case ps.HTTPS == nil:
		ps.HTTPS = ps.HTTP
	}
	ps.direct, ps.rule = always.ProxyFunc(), w.rule(n)
	w.file.parents = &ps
}

func parseParent(s string) (*ParentProxy, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	q := &ParentProxy{User: u.User, Port: 80}
	switch u.Scheme {
	case "http":
	case "https":
		q.TLS, q.Port = true, 443
	default:
		return nil, errors.New("only http:// and https:// are known")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, errors.New("it has more than a host and a port")
	}
	if strings.Contains(u.User.Username(), ":") {
		return nil, errors.New("a colon in the user's name (RFC 7617)")
	}
	if q.Host, err = ParseHost(u.Hostname()); err != nil {
		return nil, err
	}
	if u.Port() != "" {
		q.Port, err = parsePort(u.Port())
	}
	return q, err
}
