package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func init() {
	attempts["unixproxy"] = tryUnixProxy
}

// tryUnixProxy fetches a URL through $SALLYPORT_PROXY.
func tryUnixProxy(args []string) error {
	tr := &http.Transport{
		Proxy: func(*http.Request) (*url.URL, error) { return &url.URL{Scheme: "http", Host: "sallyport"}, nil },
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", os.Getenv("SALLYPORT_PROXY"))
		},
	}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get(args[0])
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New(resp.Status))
	}
	return err
}

func TestProxyIsReachedThroughItsUnixSocket(t *testing.T) {
	for name, argv := range map[string][]string{
		"curl":        {"sh", "-c", `exec curl -sS --fail --unix-socket "$SALLYPORT_PROXY" --noproxy '*' "$1"`, "sh"},
		"curl, SOCKS": {"sh", "-c", `exec curl -sS --fail --noproxy '' -x "socks5h://localhost$SALLYPORT_PROXY" "$1"`, "sh"},
		"go":          {"HELPER", "unixproxy"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "curl, SOCKS" {
				needCurl(t, 7, 84)
			}
			fetch := func(h *home, from string) *result {
				if argv[0] == "HELPER" {
					return h.helperWith(caFlags, "try", append(argv[1:], from)...)
				}
				return h.runWith(caFlags, append(argv, from)...)
			}
			r := fetch(newHome(t).allow("allowed.test"), "http://allowed.test/x").ok().says("hello from allowed.test/x")
			r.allowed("allowed.test", 80)
			for _, e := range r.events {
				if e.Process == nil || len(e.Process.Argv) == 0 || e.Process.Comm == "sallyport" {
					t.Errorf("who it was is not known: %+v", e.Process)
				}
			}
			if name != "curl" { // to whom a socket is the server itself
				fetch(newHome(t).allow("allowed.test"), "https://allowed.test/x").ok().says("hello from allowed.test/x")
			}
			h := newHome(t).allow("allowed.test")
			fetch(h, "http://denied.test/x").refused().
				once(denial{op: event.NetConnect, host: "denied.test", port: 80, rule: "builtin:default-deny"})
			silent(t)
		})
	}
}

// needCurl skips a test of what older versions cannot do.
func needCurl(t *testing.T, major, minor int) {
	t.Helper()
	var x, y int
	out, err := exec.Command("curl", "--version").Output()
	if _, scanErr := fmt.Sscanf(string(out), "curl %d.%d", &x, &y); err != nil || scanErr != nil {
		t.Fatalf("find curl's version: %v, %v", err, scanErr)
	}
	if x < major || x == major && y < minor {
		t.Skipf("curl is %d.%d, and only %d.%d speaks SOCKS over a unix socket", x, y, major, minor)
	}
}

func TestProxySocketIsTheSandboxesOwn(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	h.sh(`stat -c '%a %u' "$SALLYPORT_PROXY"; id -u; echo "$SALLYPORT_PROXY"`).ok().
		says(fmt.Sprintf("600 %d\n%d\n/run/sallyport/proxy.sock", h.uid, h.uid))
	if _, err := os.Stat("/run/sallyport/proxy.sock"); err == nil {
		t.Error("it is on the host, too")
	}
}

// parent is a proxy out there, which wants a password and connects from there.
type parent struct {
	at   string
	mu   sync.Mutex
	seen []string // targets
	bad  []string
}

const parentPassword = "Basic bWU6c2VzYW1l" // me:sesame

func newParent(t *testing.T, secure bool) *parent {
	t.Helper()
	l, _ := listenThere(t)
	p := &parent{at: l.Addr().String()}
	if secure {
		l = tls.NewListener(l, internet.tls)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *parent) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	q, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.seen = append(p.seen, q.Method+" "+q.Host)
	if len(q.Header) != 1 || q.Header.Get("Proxy-Authorization") != parentPassword {
		p.bad = append(p.bad, fmt.Sprint(q.Header))
	}
	p.mu.Unlock()
	var up net.Conn
	host, port, _ := net.SplitHostPort(q.Host)
	if host == "allowed.test" {
		host = thereV4
	}
	if err := internet.there(func() (err error) { up, err = net.Dial("tcp", net.JoinHostPort(host, port)); return err }); err != nil {
		fmt.Fprint(c, "HTTP/1.1 502 No\r\n\r\n")
		return
	}
	defer up.Close()
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(up, br)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, up)
}

func TestParentProxyCarriesWhatThePolicyAllows(t *testing.T) {
	for _, c := range []struct {
		name   string
		secure bool
		url    string // of the parent; AT is where it is
		more   string
		want   string // the host that the parent is told
		lookup bool
	}{
		{"in the clear", false, "http://me:sesame@AT", "", thereV4, true},
		{"over TLS, by its name", true, "https://me:sesame@git.test:PORT", "", thereV4, true},
		{"by name", false, "http://me:sesame@AT", ", byHostname: true", "allowed.test", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newParent(t, c.secure)
			_, port, _ := net.SplitHostPort(p.at)
			u := strings.NewReplacer("AT", p.at, "PORT", port).Replace(c.url)
			h := newHome(t).usePolicy(fmt.Sprintf("network: {allowedDomains: [allowed.test], parentProxy: {https: %q%s}}\n", u, c.more))
			r := h.runWith(caFlags, "sh", "-c", `curl -sS --fail https://allowed.test/a && curl -sS --fail --noproxy '*' https://allowed.test/b &&
				curl -sS --fail --noproxy '*' http://allowed.test:8080/c && env`).ok()
			r.says("hello from allowed.test/a").says("hello from allowed.test/b").says("hello from allowed.test:8080/c").allowed("allowed.test", 443)
			if strings.Contains(r.out, "sesame") || strings.Contains(r.out, p.at) {
				t.Errorf("inside one sees the parent:\n%s", r.out)
			}
			want := []string{"CONNECT " + c.want + ":443", "CONNECT " + c.want + ":443", "CONNECT " + c.want + ":8080"}
			if !slices.Equal(p.seen, want) || len(p.bad) != 0 {
				t.Errorf("the parent saw %q, without its password %q", p.seen, p.bad)
			}
			if n := internet.reached("tcp " + thereV4 + ":443"); n != 2 { // and none past the parent
				t.Errorf("%d connections to port 443", n)
			}
			if asked := internet.reached("dns allowed.test") > 0; asked != c.lookup {
				t.Errorf("looked up: %v", asked)
			}
			p.seen = nil
			r = h.run("curl", "-sS", "https://denied.test/").refused()
			r.once(denial{op: event.NetConnect, host: "denied.test", port: 443, rule: "builtin:default-deny"})
			if len(p.seen) != 0 {
				t.Errorf("the parent was asked for what is denied: %q", p.seen)
			}
		})
	}
}

func TestParentProxyThatIsGoneIsNotPassedBy(t *testing.T) {
	h := newHome(t).usePolicy(fmt.Sprintf("network: {allowedDomains: [allowed.test], parentProxy: {http: \"http://me:sesame@%s:9\"}}\n", thereV4))
	r := h.run("curl", "-sS", "-i", "http://allowed.test/").ok()
	r.says("502").says("the network's way out failed")
	if strings.Contains(r.out+r.err, thereV4) || strings.Contains(r.out+r.err, "sesame") {
		t.Errorf("inside one sees the parent: %s%s", r.out, r.err)
	}
	if n := internet.reached("tcp " + thereV4 + ":80"); n != 0 {
		t.Error("the server was reached without the parent")
	}
}
