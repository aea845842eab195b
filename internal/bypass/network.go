package bypass

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// literal is the denial of a connection to a plain address.
func literal(addr string, port uint16) Record {
	return Record{Op: event.NetConnect, Addr: addr, Port: port, Reason: event.AddressLiteral, Rule: "address-literal"}
}

// special is the denial of an address that is not just any address.
func special(addr string, port uint16, class string) Record {
	return Record{Op: event.NetConnect, Addr: addr, Port: port, Reason: event.AddressDenied, Rule: "address-" + class}
}

// connection is the denial of a connection to a name.
func connection(host string, reason event.Reason, rule string) Record {
	return Record{Op: event.NetConnect, Host: host, Reason: reason, Rule: rule}
}

const someRequest = `GET / HTTP/1.1\r\nHost: x\r\n\r\n`

// request is what a client sends to be served a page of a host.
func request(host string) string { return `GET / HTTP/1.1\r\nHost: ` + host + `\r\n\r\n` }

// connectTo is what a client sends to a proxy to be led to a target.
func connectTo(target string) []string {
	return []string{"proxy", `CONNECT ` + target + ` HTTP/1.1\r\nHost: ` + target + `\r\n\r\n`}
}

func absolute(target string) []string {
	return []string{"proxy", `GET http://` + target + `/ HTTP/1.1\r\nHost: ` + target + `\r\n\r\n`}
}

func literals() []Vector {
	v := func(id, text string, want Record, try ...string) Vector {
		return Vector{ID: id, Text: text, Area: Literals, Try: try, Records: always(want)}
	}
	special := func(addr, class string) Record { return special(addr, 80, class) }
	list := []Vector{
		v("literal-http", "a plain address, HTTP", literal("$there", 80), "tcp", "$there:80", someRequest),
		v("literal-https", "a plain address, TLS", literal("$there", 443), "tls", "$there:443", "allowed.test"),
		v("literal-ssh", "a plain address, SSH", literal("$there", 22), "tcp", "$there:22"),
		v("literal-other", "a plain address, any protocol", literal("$there", 4444), "tcp", "$there:4444", "hello"),
		v("literal-v6-http", "a plain IPv6 address, HTTP", literal("$there6", 80), "tcp", "[$there6]:80", someRequest),
		v("literal-v6-https", "a plain IPv6 address, TLS", literal("$there6", 443), "tls", "[$there6]:443", "allowed.test"),
		v("doh-literal", "DNS over HTTPS, by address", literal("8.8.8.8", 443), "tls", "8.8.8.8:443", "dns.google"),
		v("dot", "DNS over TLS", literal("8.8.8.8", 853), "tls", "8.8.8.8:853", "dns.google"),
		v("dot-host", "DNS over TLS, the host's resolver", literal("$dns", 853), "tls", "$dns:853", ""),
		v("port-25", "mail", Record{Op: event.NetConnect, Addr: "$there", Port: 25, Reason: event.PortDenied, Rule: "port-25"}, "tcp", "$there:25"),
		v("metadata", "the cloud's metadata service", special("169.254.169.254", "metadata"), "tcp", "169.254.169.254:80", someRequest),
		v("private", "a private address", special("10.0.0.1", "private"), "tcp", "10.0.0.1:80", someRequest),
		v("this-host", "this host's own address", special("$here", "host"), "tcp", "$here:80", someRequest),
		v("no-name", "an address of the sandbox's own range that stands for no name", Record{Op: event.NetConnect, Addr: "198.18.77.77", Port: 80,
			Reason: event.UnknownDest, Rule: "unknown-destination"}, "tcp", "198.18.77.77:80", someRequest),
		v("quic", "QUIC", packet(event.NetUDP, "$there", 443), "udp", "$there:443", "1"),
		v("quic6", "QUIC over IPv6", packet(event.NetUDP, "$there6", 443), "udp", "[$there6]:443", "1"),
		v("udp-each", "datagrams, each of five", count(packet(event.NetUDP, "$there", 5000), 5), "udp", "$there:5000", "5"),
		v("udp-name", "a datagram to an allowed name", packet(event.NetUDP, "198.18.0.2", 443), "udp", "allowed.test:443", "1"),
		v("ntp", "time", packet(event.NetUDP, "$there", 123), "udp", "$there:123", "1"),
		v("mdns", "multicast DNS", packet(event.NetUDP, "224.0.0.251", 5353), "udp", "224.0.0.251:5353", "1"),
		v("mdns6", "multicast DNS over IPv6", packet(event.NetUDP, "ff02::fb", 5353), "udp", "[ff02::fb%lo]:5353", "1"),
		v("dns-group", "DNS to a group", packet(event.NetUDP, "224.0.0.251", 53), "udp", "224.0.0.251:53", "1"),
	}
	for _, server := range []string{"8.8.8.8", "127.0.0.53", "127.0.0.1", "$dns", "198.18.0.1", "2001:4860:4860::8888", "::1"} {
		for _, network := range []string{"udp", "tcp"} {
			list = append(list, v("lookup-"+network+"-"+strings.NewReplacer("$", "", ":", ".").Replace(server), "a look-up of a denied name: "+strings.ToUpper(network)+" to "+about(server),
				Record{Op: event.NetDNS, Host: "denied.test", Addr: server, Port: 53, Rule: "default-deny"}, "dns", network, server, "denied.test"))
		}
	}
	return list
}

// about names a server for people.
func about(server string) string {
	if server == "$dns" {
		return "the host's resolver"
	}
	return server
}

func count(r Record, n uint64) Record {
	r.Count = n
	return r
}

func names() []Vector {
	var list []Vector
	add := func(id, text string, policy Policy, want Record, try []string, arrives ...string) {
		list = append(list, Vector{ID: id, Text: text, Area: Names, Policy: policy, Try: try, Records: always(want), Arrives: arrives})
	}
	for i, host := range []string{"127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0", "0x7f000001", "[fe80::1%25lo]", "[fe80::1%lo]"} {
		id, text := fmt.Sprintf("disguise-%d", i+1), "an address in disguise, "+host
		add(id+"-connect", text+", by CONNECT", Default, connection(host+":80", event.NameInvalid, "connect-target"), connectTo(host+":80"))
		if !strings.HasPrefix(host, "[") {
			add(id+"-socks", text+", by SOCKS", Default, connection(host, event.NameInvalid, "socks-request"), []string{"socks", host, "80"})
			add(id+"-request", text+", by absolute request", Default, connection(host+":80", event.NameInvalid, "http-target"), absolute(host+":80"))
			add(id+"-lookup", text+", by look-up", Default, Record{Op: event.NetDNS, Host: host, Reason: event.NameInvalid, Rule: "dns-name"}, []string{"dns", "udp", "8.8.8.8", host})
		}
	}
	for _, c := range []struct{ id, host, class string }{{"loopback", "127.0.0.1", "loopback"}, {"loopback6", "[::1]", "loopback"}, {"loopback-mapped", "[::ffff:127.0.0.1]", "loopback"},
		{"unspecified", "0.0.0.0", "unspecified"}, {"unspecified6", "[::]", "unspecified"}, {"metadata", "169.254.169.254", "metadata"}, {"metadata-mapped", "[::ffff:169.254.169.254]", "metadata"},
		{"nat64", "[64:ff9b::169.254.169.254]", "nat64"}, {"host", "$here", "host"}, {"host6", "[$here6]", "host"}} {
		want := Record{Op: event.NetConnect, Port: 80, Reason: event.AddressDenied, Rule: "address-" + c.class}
		add("connect-"+c.id, "CONNECT to "+strings.Trim(c.host, "$"), Default, want, connectTo(c.host+":80"))
	}
	add("connect-mapped", "CONNECT to an IPv4 address as IPv6", Default, literal("$there", 80), connectTo("[::ffff:$there]:80"))
	add("connect-proxy", "CONNECT to the proxy itself", Default, Record{Op: event.NetConnect, Port: 923, Reason: event.UnknownDest, Rule: "unknown-destination"}, connectTo("198.18.0.1:923"))
	for _, c := range []struct{ id, host string }{{"longer", "allowed.test.denied.test"}, {"longer-label", "notallowed.test"}, {"subdomain", "sub.allowed.test"}, {"denied", "denied.test"},
		{"doh", "dns.google"}} {
		want := connection(c.host, event.NotAllowed, "default-deny")
		add("name-"+c.id+"-connect", "the name "+c.host+", by CONNECT", Default, want, connectTo(c.host+":443"))
		add("name-"+c.id+"-socks", "the name "+c.host+", by SOCKS", Default, want, []string{"socks", c.host, "443"})
		add("name-"+c.id+"-request", "the name "+c.host+", by absolute request", Default, want, absolute(c.host))
		add("name-"+c.id+"-lookup", "the name "+c.host+", by look-up", Default, Record{Op: event.NetDNS, Host: c.host, Rule: "default-deny"}, []string{"dns", "udp", "8.8.8.8", c.host})
	}
	for _, c := range []struct{ id, text, host string }{{"nul", "NUL", "evil\x00.allowed.test"}, {"space", "a space", "evil .allowed.test"}, {"escape", "an escape to a terminal", "evil\x1b[2J.allowed.test"},
		{"bidi", "an override of the direction of text", "evil\u202e.allowed.test"}, {"junk", "a label that only begins like IDNA", "xn--a-ecp.allowed.test"}} {
		quoted := strings.Trim(strconv.QuoteToASCII(c.host), `"`)
		add(c.id+"-socks", c.text+" in a name, by SOCKS", Subs, connection(c.host, event.NameInvalid, "socks-request"), []string{"socks", quoted, "443"})
		add(c.id+"-lookup", c.text+" in a name, by look-up", Subs, Record{Op: event.NetDNS, Host: c.host, Reason: event.NameInvalid, Rule: "dns-name"}, []string{"dns", "udp", "8.8.8.8", quoted})
		want := connection("", event.RequestInvalid, "http-request")
		if c.id == "junk" {
			want = connection("", event.NameInvalid, "connect-target")
		}
		add(c.id+"-connect", c.text+" in a name, by CONNECT", Subs, want, connectTo(quoted+":443"))
	}
	// Other spellings are the same name, whatever it is.
	for _, c := range []struct{ id, text, host string }{{"soft-hyphen", "a soft hyphen", `den\u00adied.test`}, {"full-stop", "an ideographic full stop", `denied\u3002test`},
		{"fullwidth", "full-width letters", `\uff44enied.test`}, {"case", "capitals and a dot at the end", "DENIED.test."}} {
		want := connection("denied.test", event.NotAllowed, "default-deny")
		if c.id != "case" { // beyond ASCII
			want = connection("", event.RequestInvalid, "http-request")
		}
		add(c.id+"-connect", c.text+" in a denied name, by CONNECT", Default, want, connectTo(c.host+":443"))
		add(c.id+"-socks", c.text+" in a denied name, by SOCKS", Default, connection("denied.test", event.NotAllowed, "default-deny"), []string{"socks", c.host, "443"})
	}
	add("user-part", "a user part before another name", Default, connection("allowed.test@denied.test:443", event.NameInvalid, "connect-target"), connectTo("allowed.test@denied.test:443"))
	for _, c := range []struct{ host, addr, class string }{
		{"rebind.test", "127.0.0.1", "loopback"}, {"rebind6.test", "::1", "loopback"}, {"metadata.test", "169.254.169.254", "metadata"}, {"evil.localhost", "169.254.169.254", "metadata"},
		{"here.test", "$here", "host"}, {"mixed.test", "10.0.0.1", "private"}, {"mixed6.test", "fd00:ec2::254", "metadata"},
	} {
		want := special(c.addr, 80, c.class)
		want.Host = c.host
		add("resolves-"+c.host, "an allowed name that resolves to a special address: "+c.host, Rebinding, want, []string{"tcp", c.host + ":80", request(c.host)}, "dns "+c.host)
		add("resolves-"+c.host+"-connect", "the same by CONNECT", Rebinding, want, connectTo(c.host+":80"), "dns "+c.host)
		add("resolves-"+c.host+"-socks", "the same by SOCKS", Rebinding, want, []string{"socks", c.host, "80"}, "dns "+c.host)
	}
	for _, port := range []struct {
		id, text string
		n        string
	}{{"port", "another port of an allowed name", "22"}} {
		want := connection("allowed.test", event.PortDenied, "default-deny")
		add(port.id+"-connect", port.text+", by CONNECT", Ports, want, connectTo("allowed.test:"+port.n))
		add(port.id+"-socks", port.text+", by SOCKS", Ports, want, []string{"socks", "allowed.test", port.n})
		add(port.id+"-transparent", port.text+", as it is", Ports, want, []string{"tcp", "allowed.test:" + port.n})
	}
	add("port-25-connect", "mail to an allowed name", Default, connection("allowed.test", event.PortDenied, "port-25"), connectTo("allowed.test:25"))
	return list
}

func requests() []Vector {
	var list []Vector
	add := func(id, text string, want Record, try []string, arrives ...string) {
		list = append(list, Vector{ID: id, Text: text, Area: Requests, Try: try, Records: always(want), Arrives: arrives})
	}
	inside := func(reason event.Reason, rule string) Record {
		return Record{Op: event.NetConnect, Host: "allowed.test", Port: 443, Reason: reason, Rule: rule}
	}
	https := []string{"dns allowed.test", "tcp $there:443"}
	http := []string{"dns allowed.test", "tcp $there:80"}
	add("sni", "TLS for another name", inside(event.NameMismatch, "tls-name"), []string{"tls", "allowed.test:443", "denied.test"}, https...)
	add("sni-allowed", "TLS for another allowed name", inside(event.NameMismatch, "tls-name"), []string{"tls", "allowed.test:443", "also.allowed.test"}, https...)
	add("sni-connect", "TLS for another name, by CONNECT", inside(event.NameMismatch, "tls-name"), []string{"tls", "", "denied.test", "allowed.test:443"}, https...)
	add("sni-none", "TLS without a name", inside(event.NameMissing, "tls-without-name"), []string{"tls", "allowed.test:443", ""}, https...)
	add("sni-none-connect", "TLS without a name, by CONNECT", inside(event.NameMissing, "tls-without-name"), []string{"tls", "", "", "allowed.test:443"}, https...)
	add("sni-nul", "TLS for a name with NUL", inside(event.NameInvalid, "tls-name"), []string{"tls", "allowed.test:443", `denied.test\x00.allowed.test`}, https...)
	add("sni-fragments", "TLS for another name, in records of a few bytes", inside(event.NameMismatch, "tls-name"), []string{"tlsodd", "allowed.test:443", "denied.test", "fragments"}, https...)
	add("sni-long", "TLS for another name, behind 8 KiB", inside(event.NameMismatch, "tls-name"), []string{"tlsodd", "allowed.test:443", "denied.test", "long"}, https...)
	add("no-tls", "no TLS on port 443", inside(event.NameMissing, "tls-without-name"), []string{"tcp", "allowed.test:443", request("allowed.test")}, https...)
	add("host", "a page of another host", connection("allowed.test", event.NameMismatch, "http-host"), []string{"tcp", "allowed.test:80", request("denied.test")}, http...)
	add("host-second", "a page of another host, as the second request", connection("allowed.test", event.NameMismatch, "http-host"),
		[]string{"second", `GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\nGET http://allowed.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n`}, append(http, "bytes $there:80")...)
	add("host-absolute", "a page of another host, by absolute request", connection("allowed.test", event.NameMismatch, "http-host"), []string{"proxy", `GET http://allowed.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n`})
	add("host-twice", "two hosts in one request", connection("allowed.test", event.RequestInvalid, "http-host"), []string{"proxy", `GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\nHost: denied.test\r\n\r\n`})
	add("lengths", "two lengths in one request", connection("", event.RequestInvalid, "http-request"),
		[]string{"proxy", `POST http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`})
	add("origin", "the proxy as a server", connection("/", event.RequestInvalid, "http-request"), []string{"proxy", request("allowed.test")})
	add("upgrade", "an upgrade to a protocol that is not looked into", connection("denied.test", event.NotAllowed, "default-deny"),
		[]string{"proxy", `GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`})
	return append(list,
		Vector{ID: "h2", Text: "HTTP/2: upgrade, another :authority", Area: Requests, Held: []string{"proxy.TestUpgradeToHTTP2IsDroppedAndRecorded"}},
		Vector{ID: "slow-hello", Text: "a ClientHello that never ends, byte by byte", Area: Requests, Held: []string{"proxy.TestSlowLongHeadsAreBoundedTogether"}})
}

func asking() []Vector {
	return []Vector{
		{ID: "prompts", Text: "a flood of questions", Area: Asking, Held: []string{"proxy/ask.TestManyAtOnceAreOneCallAHostAndFewAtOnce"}},
		{ID: "helper", Text: "a helper that fails, hangs or answers nonsense", Area: Asking, Held: []string{"proxy/ask.TestAnAuthorizerThatFailsRefuses",
			"proxy/ask.TestAnAuthorizerThatHangsIsEndedWithAllItStarted", "proxy/ask.TestGarbageIsNoReply"}},
		{ID: "idle", Text: "ten thousand idle connections; more than the cap", Area: Asking, Held: []string{"proxy.TestTenThousandIdleConnections", "proxy.TestConnectionsOverTheCapAreResetAndRecorded"}},
		{ID: "resets", Text: "storms of resets, half-open connections", Area: Asking, Held: []string{"proxy.TestResetStormLeavesNothing", "proxy.TestIdleAndTotalLimitsEndConnections"}},
		{ID: "refusals", Text: "a flood of refused calls, all alike or all different", Area: Asking, Held: []string{"TestFloodOfRefusedCallsIsCounted", "TestFloodOfDifferentCallsIsBounded"}},
	}
}
