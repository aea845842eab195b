package plan

import (
	"fmt"
	"net/netip"
	"strings"
)

// Network describes a sandbox's own network namespace: a loopback device,
// every address local to it, and nothing that leads outside but the sockets
// whose other end the proxy holds.
type Network struct {
	// Proxy4 and Proxy6 are where the proxy's TCP listeners are bound, one a
	// family because TPROXY names the address. Their addresses are also the
	// source of every connection the payload makes.
	// Proxy6 is the zero value on a host without IPv6.
	Proxy4, Proxy6 netip.AddrPort
	// Mark is the SO_MARK of the proxy's own sockets. Setting one takes
	// CAP_NET_ADMIN or CAP_NET_RAW (socket(7)), which the payload never has.
	Mark uint32
	// NFLOGGroup is the netlink group that receives refused packets.
	NFLOGGroup uint16
}

// Names of what refuses a packet. Each is the log prefix of its nft rule and,
// as "builtin:NAME", the rule of the event made from it.
const (
	RuleTCPAndDNSOnly = "tcp-and-dns-only"
	RuleNoIPOptions   = "no-ip-options"
	RuleProxyOnly     = "proxy-only"
)

// DefaultNetwork is the one every sandbox gets.
//
// 198.18.0.0/15 is set aside for benchmarks (RFC 2544), so nothing real lives
// there; the IPv6 address is a unique local one (RFC 4193) drawn at random
// for sallyport. The port is below 1024, so that the payload can neither bind
// it nor be robbed of a port that developers use, unassigned by IANA, and
// absent from the Fetch standard's list of bad ports, which browsers and Node
// refuse to connect to.
func DefaultNetwork() Network {
	return Network{
		Proxy4:     netip.MustParseAddrPort("198.18.0.1:923"),
		Proxy6:     netip.MustParseAddrPort("[fd5a:7b1c:e93d::1]:923"),
		Mark:       0x5a11,
		NFLOGGroup: 1,
	}
}

// nftHead and nftTail surround the one rule that exists a family.
const nftHead = `# The rules inside a sandbox's network namespace. Every address is local there
# and the only device is lo, so no packet can leave: these rules bring TCP to
# the proxy, and refuse and record the rest. The payload has no capability in
# the namespace and can neither list nor change them.
table inet sallyport {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		# The sandbox's own servers on localhost.
		ip daddr 127.0.0.0/8 accept
		ip6 daddr ::1 accept
		# The DNS listener is bound to every address already.
		tcp dport 53 accept
		# Everything else goes to the proxy, whatever is bound to the address;
		# getsockname(2) there tells the original destination. A packet of an
		# established connection that belongs to the payload's end does not
		# match (its socket is not transparent) and takes its normal way.
`

const nftTail = `		# A connection that found no listener: the proxy is gone. Without this
		# the payload could play the outside to itself, unrecorded.
		tcp flags & (fin | syn | rst | ack) == syn counter log prefix "proxy-only" group %[1]d drop
	}
	# All packets are made here, so this chain sees every one of them. What no
	# rule accepts is refused.
	chain output {
		type filter hook output priority filter; policy drop;
		# Errors the kernel makes in answer to packets. The payload cannot: raw
		# sockets need CAP_NET_RAW, and ping sockets send echo requests only.
		# First, since an error echoes the options of the packet it is about.
		# In ICMPv6 the errors are the types below 128 (RFC 4443, section 2.1).
		icmp type destination-unreachable accept
		icmp type time-exceeded accept
		icmp type parameter-problem accept
		icmpv6 type < 128 accept
		# With IP options or a routing header a packet's address need not be
		# where it is going.
		ip hdrlength != 5 counter log prefix "no-ip-options" group %[1]d reject with icmpx type admin-prohibited
		meta nfproto ipv6 exthdr rt exists counter log prefix "no-ip-options" group %[1]d reject with icmpx type admin-prohibited
		# The proxy's answers.
		meta mark 0x%08[2]x accept
		ip daddr 127.0.0.0/8 accept
		ip6 daddr ::1 accept
		meta l4proto tcp accept
		# A question to a group, or to every host, is discovery, not DNS; it
		# goes on to the last rule. The address of a resolver is one host's.
		ip daddr < 224.0.0.0 udp dport 53 accept
		ip6 daddr < ff00:: udp dport 53 accept
		counter log prefix "tcp-and-dns-only" group %[1]d reject with icmpx type admin-prohibited
	}
}
`

// NFTText is the ruleset as nft(8) reads it. The sandbox loads the same rules
// over netlink; a test compares the two as the kernel lists them.
func (n Network) NFTText() string {
	var b strings.Builder
	b.WriteString(nftHead)
	fmt.Fprintf(&b, "\t\tmeta nfproto ipv4 meta l4proto tcp tproxy ip to %s accept\n", n.Proxy4)
	if n.Proxy6.IsValid() {
		fmt.Fprintf(&b, "\t\tmeta nfproto ipv6 meta l4proto tcp tproxy ip6 to %s accept\n", n.Proxy6)
	}
	fmt.Fprintf(&b, nftTail, n.NFLOGGroup, n.Mark)
	return b.String()
}
