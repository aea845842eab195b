package policy

import (
	"net/netip"
	"sync"
)

// addressClass is a kind of address that a name must not lead to.
type addressClass struct {
	name string // rule is builtin:address-NAME
	text string
	// single reports that only an entry for the one address opens it.
	single bool
	// suggest reports that opening it may be offered to the user.
	suggest  bool
	prefixes []netip.Prefix
}

func class(name, text string, prefixes ...string) *addressClass {
	c := &addressClass{name: name, text: text}
	for _, p := range prefixes {
		c.prefixes = append(c.prefixes, netip.MustParsePrefix(p))
	}
	return c
}

func (c *addressClass) offered() *addressClass { c.suggest = true; return c }
func (c *addressClass) alone() *addressClass   { c.single = true; return c }

// hostClass has no prefixes: its addresses come with the Env.
var hostClass = class("host", "an address of this host").offered()

// addressClasses are tried in order. They are the IANA special-purpose
// registries for IPv4 and IPv6 (RFC 6890 and its updates), multicast, and the
// clouds' metadata and platform services, which hand out credentials to
// whoever asks.
func addressClasses() []*addressClass {
	return []*addressClass{
		class("metadata", "a cloud metadata or platform service",
			"169.254.169.254/32", // AWS, GCP, Azure, Oracle, DigitalOcean and others
			"169.254.169.253/32", // AWS resolver
			"169.254.169.123/32", // AWS time
			"169.254.170.2/32",   // AWS ECS credentials
			"169.254.170.23/32",  // AWS EKS pod identity
			"168.63.129.16/32",   // Azure WireServer
			"100.100.100.200/32", // Alibaba
			"192.0.0.192/32",     // Oracle classic
			"fd00:ec2::/32",      // AWS over IPv6
			"fd20:ce::254/128",   // GCP over IPv6
			"fd00:c1::a9fe:a9fe/128",
			"fd00:42::42/128",
			"fd00:a9fe:a9fe::1/128",
			"fd00:100::100:200/128",
		).alone(),
		class("loopback", "a loopback address", "127.0.0.0/8", "::1/128"),
		class("unspecified", "an unspecified address", "0.0.0.0/8", "::/128"),
		class("link-local", "a link-local address", "169.254.0.0/16", "fe80::/10"),
		class("multicast", "a multicast address", "224.0.0.0/4", "ff00::/8"),
		class("broadcast", "the broadcast address", "255.255.255.255/32"),
		hostClass,
		class("private", "a private address",
			"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10").offered(),
		class("shared", "a carrier's shared address", "100.64.0.0/10").offered(),
		class("protocol", "an IETF protocol address", "192.0.0.0/24"),
		class("benchmark", "a benchmarking address", "198.18.0.0/15", "2001:2::/48"),
		class("documentation", "a documentation address",
			"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
		class("relay", "a 6to4 relay address", "192.88.99.0/24"),
		class("reserved", "a reserved address", "240.0.0.0/4"),
		class("mapped", "an IPv4-mapped address", "::ffff:0:0/96"),
		class("compatible", "an IPv4-compatible address", "::/96"),
		class("translated", "an IPv4-translated address", "::ffff:0:0:0/96"),
		class("nat64", "a NAT64 address", "64:ff9b::/96", "64:ff9b:1::/48").offered(),
		class("6to4", "a 6to4 address", "2002::/16"),
		class("teredo", "a Teredo address", "2001::/32"),
		class("discard", "a discard address", "100::/64", "100:0:0:1::/64"),
		class("protocol", "an IETF protocol address", "2001::/23"),
		class("segment", "a segment routing address", "5f00::/16"),
	}
}

// unallocated is IPv6 outside the one block that is handed out for global
// unicast, RFC 4291 section 2.4.
var (
	unallocated   = class("unallocated", "an address outside global unicast")
	globalUnicast = netip.MustParsePrefix("2000::/3")
)

// special is one prefix of a class.
type special struct {
	prefix netip.Prefix
	class  *addressClass
}

// specials gives the classes' prefixes by family, in order; an entry of
// hostClass stands where the host's own addresses are looked up. They are made
// when the first address is decided: a run starts this program three times.
var specials = sync.OnceValues(func() (v4, v6 []special) {
	for _, c := range addressClasses() {
		if c == hostClass {
			v4, v6 = append(v4, special{class: c}), append(v6, special{class: c})
		}
		for _, p := range c.prefixes {
			if p.Addr().Is4() {
				v4 = append(v4, special{p, c})
			} else {
				v6 = append(v6, special{p, c})
			}
		}
	}
	return v4, v6
})

// classify says what is special about an address, nil if nothing is.
func classify(addr netip.Addr, own map[netip.Addr]bool) *addressClass {
	list, v6 := specials()
	if addr.Is6() {
		list = v6
	}
	for _, s := range list {
		if s.prefix.Contains(addr) || s.class == hostClass && own[addr] {
			return s.class
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return unallocated
	}
	return nil
}

// embedded gives the IPv4 address that a translator or tunnel would deliver
// to: IPv4-compatible and -translated (RFC 4291, 2765), NAT64 (RFC 6052) and
// 6to4 (RFC 3056).
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	if b[0] == 0x20 && b[1] == 0x02 {
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	for _, p := range embedding {
		if p.Contains(addr) {
			return netip.AddrFrom4([4]byte(b[12:16])), true
		}
	}
	return netip.Addr{}, false
}

var embedding = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("::ffff:0:0:0/96"),
	netip.MustParsePrefix("::/96"),
}
