package e2e

import (
	"net"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestServerThatSpeaksFirstIsHeard(t *testing.T) {
	h := newHome(t).allow("mail.test")
	h.try("tcp", "mail.test:2525").ok().says("220 mail.test ESMTP").allowed("mail.test", 2525)
}

func TestPort25WantsAnEntryOfItsOwn(t *testing.T) {
	h := newHome(t).allow("mail.test")
	h.try("tcp", "mail.test:25").refused().
		once(denial{op: event.NetConnect, host: "mail.test", port: 25, reason: event.PortDenied, rule: "builtin:port-25"})
	silent(t)
	h.allow("mail.test:25").try("tcp", "mail.test:25").ok().says("220 mail.test ESMTP").allowed("mail.test", 25)
}

func TestOtherPortsOfAllowedNamesAreReached(t *testing.T) {
	for _, u := range []string{"http://allowed.test:8080/", "https://allowed.test:8443/"} {
		for _, flags := range [][]string{nil, {"--noproxy", "*"}} {
			h := newHome(t).allow("allowed.test")
			h.runWith(caFlags, append(append([]string{"curl", "-sS", "--fail"}, flags...), u)...).ok().says("hello from allowed.test:8")
		}
	}
}

func TestNameWithIPv6OutsideIsReachedByItsFakeAddress(t *testing.T) {
	h := newHome(t).allow("six.test")
	h.run("curl", "-sS", "--noproxy", "*", "http://six.test/").ok().says("hello from six.test").allowed("six.test", 80)
	onlyArrived(t, "dns six.test", "tcp "+net.JoinHostPort(thereV6, "80"))
}

func TestDualStackSocketReachesAllowedName(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	h.run("/usr/bin/python3", "-c", `import socket
s = socket.socket(socket.AF_INET6)
s.connect(("::ffff:" + socket.gethostbyname("allowed.test"), 80))
s.send(b"GET /x HTTP/1.0\r\nHost: allowed.test\r\n\r\n")
print(s.recv(4096).decode(), s.recv(4096).decode())`).ok().says("hello from allowed.test").allowed("allowed.test", 80)
}

func TestIPv6OnlyClientFindsNoAddressAndNothingIsDenied(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	h.run("curl", "-sS", "-6", "--noproxy", "*", "http://allowed.test/").refused().nothingDenied()
	silent(t)
}

func TestKeepAliveIsOneConnectionOutside(t *testing.T) {
	for name, flags := range map[string][]string{"proxied": nil, "direct": {"--noproxy", "*"}} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t).allow("allowed.test")
			r := h.run(append(append([]string{"curl", "-sS", "--fail"}, flags...), "http://allowed.test/a", "http://allowed.test/b")...).ok()
			r.says("allowed.test/a").says("allowed.test/b").allowed("allowed.test", 80)
			if n := internet.reached("tcp " + thereV4 + ":80"); n != 1 {
				t.Errorf("%d connections outside, want 1", n)
			}
		})
	}
}

func TestEveryRequestOfAKeptConnectionIsDecided(t *testing.T) {
	h := newHome(t).allow("allowed.test", "also.allowed.test")
	r := h.run("curl", "-sS", "http://allowed.test/a", "http://also.allowed.test/b", "http://denied.test/c")
	r.says("hello from allowed.test/a").says("hello from also.allowed.test/b").says("sallyport: refused: denied.test")
	r.once(denial{op: event.NetConnect, host: "denied.test", port: 80, rule: "builtin:default-deny"})
	onlyArrived(t, "dns allowed.test", "dns also.allowed.test", "tcp "+thereV4+":80")

	// Here the client believes that it talks to one server all the time.
	h = newHome(t).allow("allowed.test")
	r = h.try("tcp", "allowed.test:80", `GET /a HTTP/1.1\r\nHost: denied.test\r\n\r\n`).refused()
	r.once(denial{op: event.NetConnect, host: "allowed.test", port: 80, reason: event.NameMismatch, rule: "builtin:http-host"})
	if n := internet.reached("bytes " + thereV4 + ":80"); n != 0 {
		t.Errorf("%d bytes arrived", n)
	}
}

func TestConnectLeadsToAllowedNames(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	h.sh(`curl -sS --fail -p -x "$http_proxy" http://allowed.test:8080/x`).ok().says("hello from allowed.test:8080/x").allowed("allowed.test", 8080)
	h.sh(`curl -sS --fail -x "socks5h://${http_proxy#http://}" http://allowed.test:8080/x`).ok().says("hello from allowed.test:8080/x")
}

func TestServerOnLocalhostWorksForItsOwnSandbox(t *testing.T) {
	h := newHome(t)
	h.sh(`echo hello from inside >f
/usr/bin/python3 -u -m http.server --bind 127.0.0.1 8000 >log 2>&1 & trap "kill $!" EXIT
until grep -q Serving log; do sleep .02; done
curl -sS http://127.0.0.1:8000/f && curl -sS --noproxy '*' http://localhost:8000/f`).
		ok().says(strings.Repeat("hello from inside\n", 2)).nothingDenied()
	silent(t)
}
