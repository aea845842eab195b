package e2e

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// refusal is an attempt of the helper that must be refused, recorded and not
// arrive.
type refusal struct {
	name  string
	allow []string // default: allowed.test
	try   []string
	want  denial
	// arrives is what the far side may see of it: an allowed name is looked up
	// and connected to before what it carries is known.
	arrives []string
}

func testRefusals(t *testing.T, refusals []refusal) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			allow := r.allow
			if allow == nil {
				allow = []string{"allowed.test"}
			}
			newHome(t).allow(allow...).try(r.try...).refused().once(r.want)
			if r.arrives == nil {
				silent(t)
			} else {
				onlyArrived(t, r.arrives...)
			}
			for what, n := range internet.all() {
				if strings.HasPrefix(what, "bytes ") {
					t.Errorf("%d %s", n, what)
				}
			}
		})
	}
}

// literal is the denial of a connection to a plain address.
func literal(addr string, port uint16) denial {
	return denial{op: event.NetConnect, addr: addr, port: port, reason: event.AddressLiteral, rule: "builtin:address-literal"}
}

// special is the denial of a plain address that is not just any address.
func special(addr string, port uint16, class string) denial {
	return denial{op: event.NetConnect, addr: addr, port: port, reason: event.AddressDenied, rule: "builtin:address-" + class}
}

const someRequest = `GET / HTTP/1.1\r\nHost: x\r\n\r\n`

func TestAddressLiteralsAreRefused(t *testing.T) {
	testRefusals(t, []refusal{
		{name: "v4 http", try: []string{"tcp", thereV4 + ":80", someRequest}, want: literal(thereV4, 80)},
		{name: "v4 https", try: []string{"tls", thereV4 + ":443", "allowed.test"}, want: literal(thereV4, 443)},
		{name: "v4 ssh", try: []string{"tcp", thereV4 + ":22"}, want: literal(thereV4, 22)},
		{name: "v4 other", try: []string{"tcp", thereV4 + ":4444", "hello"}, want: literal(thereV4, 4444)},
		{name: "v6 http", try: []string{"tcp", "[" + thereV6 + "]:80", someRequest}, want: literal(thereV6, 80)},
		{name: "v6 https", try: []string{"tls", "[" + thereV6 + "]:443", "allowed.test"}, want: literal(thereV6, 443)},
		{name: "v4 mptcp", try: []string{"mptcp", thereV4 + ":2525"}, want: literal(thereV4, 2525)},
		{name: "v6 mptcp", try: []string{"mptcp", "[" + thereV6 + "]:2525"}, want: literal(thereV6, 2525)},
		{name: "v4 fast open", try: []string{"fastopen", thereV4 + ":2525"}, want: literal(thereV4, 2525)},
		{name: "v6 fast open", try: []string{"fastopen", "[" + thereV6 + "]:2525"}, want: literal(thereV6, 2525)},
		{name: "DNS over TLS", try: []string{"tls", "8.8.8.8:853", "dns.google"}, want: literal("8.8.8.8", 853)},
		{name: "DNS over TLS of the host's resolver", try: []string{"tls", dnsV4 + ":853", ""}, want: literal(dnsV4, 853)},
		{name: "port 25", try: []string{"tcp", thereV4 + ":25"},
			want: denial{op: event.NetConnect, addr: thereV4, port: 25, reason: event.PortDenied, rule: "builtin:port-25"}},
		{name: "metadata", try: []string{"tcp", "169.254.169.254:80", someRequest}, want: special("169.254.169.254", 80, "metadata")},
		{name: "private", try: []string{"tcp", "10.0.0.1:80", someRequest}, want: special("10.0.0.1", 80, "private")},
		{name: "this host", try: []string{"tcp", hereV4 + ":80", someRequest}, want: special(hereV4, 80, "host")},
		{name: "an address of no name", try: []string{"tcp", "198.18.77.77:80", someRequest},
			want: denial{op: event.NetConnect, addr: "198.18.77.77", port: 80, reason: event.UnknownDest, rule: "builtin:unknown-destination"}},
	})
}

// packet is the denial of what is neither TCP nor DNS.
func packet(op event.Operation, addr string, port uint16) denial {
	return denial{op: op, addr: addr, port: port, reason: event.ProtocolDenied, rule: "builtin:tcp-and-dns-only"}
}

func TestUDPIsRefused(t *testing.T) {
	five := packet(event.NetUDP, thereV4, 5000)
	five.count = 5
	testRefusals(t, []refusal{
		{name: "QUIC", try: []string{"udp", thereV4 + ":443", "1"}, want: packet(event.NetUDP, thereV4, 443)},
		{name: "v6", try: []string{"udp", "[" + thereV6 + "]:443", "1"}, want: packet(event.NetUDP, thereV6, 443)},
		{name: "any port, each packet", try: []string{"udp", thereV4 + ":5000", "5"}, want: five},
		{name: "to an allowed name", try: []string{"udp", "allowed.test:443", "1"}, want: packet(event.NetUDP, "198.18.0.2", 443)},
		{name: "time", try: []string{"udp", thereV4 + ":123", "1"}, want: packet(event.NetUDP, thereV4, 123)},
		{name: "multicast DNS", try: []string{"udp", "224.0.0.251:5353", "1"}, want: packet(event.NetUDP, "224.0.0.251", 5353)},
		{name: "multicast DNS over v6", try: []string{"udp", "[ff02::fb%lo]:5353", "1"}, want: packet(event.NetUDP, "ff02::fb", 5353)},
		{name: "DNS to a group", try: []string{"udp", "224.0.0.251:53", "1"}, want: packet(event.NetUDP, "224.0.0.251", 53)},
	})
}

func TestICMPIsRefused(t *testing.T) {
	h := newHome(t)
	if r := h.run("cat", "/proc/sys/net/ipv4/ping_group_range"); r.out == "1\t0\n" {
		t.Skip("ping sockets need a group that is mapped outside, too: the kernel refuses them here, and the summary says so")
	}
	testRefusals(t, []refusal{
		{name: "v4", try: []string{"ping", thereV4}, want: packet(event.NetICMP, thereV4, 0)},
		{name: "v6", try: []string{"ping", thereV6}, want: packet(event.NetICMP, thereV6, 0)},
	})
}

// lookup is the denial of a look-up of denied.test by way of a server.
func lookup(server string) denial {
	return denial{op: event.NetDNS, host: "denied.test", addr: server, port: 53, rule: "builtin:default-deny"}
}

func TestLookUpsOfDeniedNamesAreRefusedByEveryServer(t *testing.T) {
	var list []refusal
	for _, server := range []string{"8.8.8.8", "127.0.0.53", "127.0.0.1", dnsV4, "198.18.0.1", "2001:4860:4860::8888", "::1"} {
		for _, network := range []string{"udp", "tcp"} {
			list = append(list, refusal{name: network + " " + server, try: []string{"dns", network, server, "denied.test"}, want: lookup(server)})
		}
	}
	testRefusals(t, list)
}

func TestLookUpsOfAllowedNamesStayInside(t *testing.T) {
	for _, server := range []string{"8.8.8.8", "127.0.0.53", dnsV4, "2001:4860:4860::8888"} {
		for _, network := range []string{"udp", "tcp"} {
			newHome(t).allow("allowed.test").try("dns", network, server, "allowed.test").ok().says("198.18.0.2").nothingDenied()
			silent(t)
		}
	}
}
