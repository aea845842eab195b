package e2e

import (
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// resolved is the denial of an allowed name for what it resolved to.
func resolved(name, addr, class string) denial {
	d := special(addr, 80, class)
	d.host = name
	return d
}

func TestAllowedNamesDoNotLeadToSpecialAddresses(t *testing.T) {
	var list []refusal
	for _, c := range []struct{ name, addr, class string }{
		{"rebind.test", "127.0.0.1", "loopback"}, {"rebind6.test", "::1", "loopback"},
		{"metadata.test", "169.254.169.254", "metadata"}, {"evil.localhost", "169.254.169.254", "metadata"},
		{"here.test", hereV4, "host"}, {"mixed.test", "10.0.0.1", "private"}, {"mixed6.test", "fd00:ec2::254", "metadata"},
	} {
		request := `GET / HTTP/1.1\r\nHost: ` + c.name + `\r\n\r\n`
		list = append(list,
			refusal{name: c.name, allow: []string{c.name}, try: []string{"tcp", c.name + ":80", request},
				want: resolved(c.name, c.addr, c.class), arrives: []string{"dns " + c.name}},
			refusal{name: c.name + " proxied", allow: []string{c.name}, try: []string{"proxy", `CONNECT ` + c.name + `:80 HTTP/1.1\r\nHost: ` + c.name + `:80\r\n\r\n`},
				want: resolved(c.name, c.addr, c.class), arrives: []string{"dns " + c.name}})
	}
	testRefusals(t, list)
}

func TestTLSMustAskForTheNameThatWasConnectedTo(t *testing.T) {
	inside := func(reason event.Reason, rule string) denial {
		return denial{op: event.NetConnect, host: "allowed.test", port: 443, reason: reason, rule: "builtin:" + rule}
	}
	arrives := []string{"dns allowed.test", "tcp " + thereV4 + ":443"}
	both := []string{"allowed.test", "also.allowed.test"}
	testRefusals(t, []refusal{
		{name: "another name", try: []string{"tls", "allowed.test:443", "denied.test"},
			want: inside(event.NameMismatch, "tls-name"), arrives: arrives},
		{name: "another allowed name", allow: both, try: []string{"tls", "allowed.test:443", "also.allowed.test"},
			want: inside(event.NameMismatch, "tls-name"), arrives: arrives},
		{name: "another name by CONNECT", try: []string{"tls", "", "denied.test", "allowed.test:443"},
			want: inside(event.NameMismatch, "tls-name"), arrives: arrives},
		{name: "no name", try: []string{"tls", "allowed.test:443", ""},
			want: inside(event.NameMissing, "tls-without-name"), arrives: arrives},
		{name: "no name by CONNECT", try: []string{"tls", "", "", "allowed.test:443"},
			want: inside(event.NameMissing, "tls-without-name"), arrives: arrives},
		{name: "a name with NUL", try: []string{"tls", "allowed.test:443", `denied.test\x00.allowed.test`},
			want: inside(event.NameInvalid, "tls-name"), arrives: arrives},
		{name: "no TLS on 443", try: []string{"tcp", "allowed.test:443", `GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n`},
			want: inside(event.NameMissing, "tls-without-name"), arrives: arrives},
	})
}

// connectTo is what a client sends to a proxy to be led to a target.
func connectTo(target string) []string {
	return []string{"proxy", `CONNECT ` + target + ` HTTP/1.1\r\nHost: ` + target + `\r\n\r\n`}
}

func TestProxyIsNotTalkedIntoOtherNames(t *testing.T) {
	refused := func(host string, reason event.Reason, rule string) denial {
		return denial{op: event.NetConnect, host: host, reason: reason, rule: "builtin:" + rule}
	}
	onlyWeb := []string{"allowed.test:443"}
	testRefusals(t, []refusal{
		{name: "denied name", try: connectTo("denied.test:443"), want: refused("denied.test", event.NotAllowed, "default-deny")},
		{name: "denied name by SOCKS", try: []string{"socks", "denied.test", "443"}, want: refused("denied.test", event.NotAllowed, "default-deny")},
		{name: "denied port", allow: onlyWeb, try: connectTo("allowed.test:22"), want: refused("allowed.test", event.PortDenied, "default-deny")},
		{name: "denied port by SOCKS", allow: onlyWeb, try: []string{"socks", "allowed.test", "22"}, want: refused("allowed.test", event.PortDenied, "default-deny")},
		{name: "port 25", try: connectTo("allowed.test:25"), want: refused("allowed.test", event.PortDenied, "port-25")},
		{name: "longer name", try: connectTo("allowed.test.denied.test:443"), want: refused("allowed.test.denied.test", event.NotAllowed, "default-deny")},
		{name: "longer label", try: connectTo("notallowed.test:443"), want: refused("notallowed.test", event.NotAllowed, "default-deny")},
		{name: "subdomain", try: connectTo("also.allowed.test:443"), want: refused("also.allowed.test", event.NotAllowed, "default-deny")},
		{name: "NUL by CONNECT", try: connectTo(`evil\x00.allowed.test:443`), want: refused("", event.RequestInvalid, "http-request")},
		{name: "NUL by SOCKS", allow: []string{"*.allowed.test"}, try: []string{"socks", `evil\x00.allowed.test`, "443"},
			want: refused("evil\x00.allowed.test", event.NameInvalid, "socks-request")},
		{name: "NUL in a look-up", allow: []string{"*.allowed.test"}, try: []string{"dns", "udp", "8.8.8.8", `evil\x00.allowed.test`},
			want: denial{op: event.NetDNS, host: "evil\x00.allowed.test", reason: event.NameInvalid, rule: "builtin:dns-name"}},
		{name: "space", allow: []string{"*.allowed.test"}, try: []string{"socks", `evil .allowed.test`, "443"}, want: refused("evil .allowed.test", event.NameInvalid, "socks-request")},
		{name: "user part", try: connectTo("allowed.test@denied.test:443"), want: refused("allowed.test@denied.test:443", event.NameInvalid, "connect-target")},
		{name: "Host of another", try: []string{"proxy", `GET http://allowed.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n`}, want: refused("allowed.test", event.NameMismatch, "http-host")},
		{name: "two Hosts", try: []string{"proxy", `GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\nHost: denied.test\r\n\r\n`},
			want: refused("allowed.test", event.RequestInvalid, "http-host")},
		{name: "two lengths", try: []string{"proxy", `POST http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`},
			want: refused("", event.RequestInvalid, "http-request")},
		{name: "to the proxy as a server", try: []string{"proxy", `GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n`}, want: refused("/", event.RequestInvalid, "http-request")},
	})
}

func TestAddressesInDisguiseAreRefused(t *testing.T) {
	invalid := func(target string) denial {
		return denial{op: event.NetConnect, host: target, reason: event.NameInvalid, rule: "builtin:connect-target"}
	}
	var list []refusal
	for _, host := range []string{"127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0", "0x7f000001", "[fe80::1%25lo]", "[fe80::1%lo]"} {
		list = append(list, refusal{name: host, try: connectTo(host + ":80"), want: invalid(host + ":80")})
	}
	for host, class := range map[string]string{"127.0.0.1": "loopback", "[::1]": "loopback", "[::ffff:127.0.0.1]": "loopback",
		"0.0.0.0": "unspecified", "[::]": "unspecified", "169.254.169.254": "metadata", "[::ffff:169.254.169.254]": "metadata",
		"[64:ff9b::169.254.169.254]": "nat64", hereV4: "host", "[" + hereV6 + "]": "host"} {
		want := denial{op: event.NetConnect, port: 80, reason: event.AddressDenied, rule: "builtin:address-" + class}
		list = append(list, refusal{name: host, try: connectTo(host + ":80"), want: want})
	}
	list = append(list, refusal{name: "mapped", try: connectTo("[::ffff:" + thereV4 + "]:80"), want: literal(thereV4, 80)},
		refusal{name: "the proxy itself", try: connectTo("198.18.0.1:923"),
			want: denial{op: event.NetConnect, port: 923, reason: event.UnknownDest, rule: "builtin:unknown-destination"}})
	testRefusals(t, list)
}

func TestOtherSpellingsOfAnAllowedNameAreTheSameName(t *testing.T) {
	for _, host := range []string{"ALLOWED.test", "allowed.test."} {
		newHome(t).allow("allowed.test").run("curl", "-sS", "--fail", "http://"+host+"/x").ok().says("/x").allowed("allowed.test", 80)
		newHome(t).allow("allowed.test").run("curl", "-sS", "--fail", "--noproxy", "*", "http://"+host+"/x").ok().says("/x").allowed("allowed.test", 80)
	}
}

// TestHostsOwnServersAreOutOfReach holds a server on the host's loopback, and
// one on its address, against every way there could be.
func TestHostsOwnServersAreOutOfReach(t *testing.T) {
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			c.Close()
		}
	}()
	at := l.Addr().(*net.TCPAddr).Port
	port := ":" + strconv.Itoa(at)
	for _, try := range [][]string{
		{"tcp", "127.0.0.1" + port}, {"tcp", "[::1]" + port}, {"tcp", "127.9.9.9" + port}, {"tcp", "0.0.0.0" + port},
		{"tcp", hereV4 + port}, {"tcp", "[" + hereV6 + "]" + port}, {"tcp", "rebind.test" + port}, {"tcp", "rebind6.test" + port},
		{"tcp", "here.test" + port}, connectTo("localhost" + port), connectTo("127.0.0.1" + port), connectTo("rebind.test" + port),
		{"socks", "localhost", port[1:]}, {"socks", "127.0.0.1", port[1:]}, {"socks", "here.test", port[1:]},
	} {
		t.Run(strings.Join(try[:2], " "), func(t *testing.T) {
			newHome(t).allow("rebind.test", "rebind6.test", "here.test").try(try...).refused()
		})
	}
	if n := accepted.Load(); n != 0 {
		t.Errorf("the host's server was reached %d times", n)
	}
	// The server is there.
	if c, err := net.Dial("tcp", "127.0.0.1"+port); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}
