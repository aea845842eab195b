package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// entryKind says which list an entry is from: they differ in what they take.
type entryKind uint8

const (
	entryAllow   entryKind = iota // names, *.names, addresses, prefixes
	entryDeny                     // the same, any wildcard, and *
	entryAddress                  // addresses and prefixes, no port
)

type hostKind uint8

const (
	hostNone   hostKind = iota
	hostName            // exactly this name
	hostBelow           // every name below this one, not itself
	hostPrefix          // addresses
	hostAll             // *
)

// hostEntry is one entry of a list of hosts.
type hostEntry struct {
	kind   hostKind
	name   string
	prefix netip.Prefix
	port   uint16 // 0: any, but 25 only when an entry names it
	rule   Rule
	text   string // deniedDomainReasons
}

// canonical gives the one spelling of the entry.
func (e hostEntry) canonical() string {
	host := ""
	switch e.kind {
	case hostName:
		host = e.name
	case hostBelow:
		host = "*." + e.name
	case hostAll:
		host = "*"
	case hostPrefix:
		host = e.prefix.String()
		if e.prefix.IsSingleIP() {
			host = e.prefix.Addr().String()
		}
		if e.prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	if e.port == 0 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, e.port)
}

// parseHostEntry reads "example.com", "*.example.com", "192.0.2.1",
// "10.0.0.0/8", "[2001:db8::1]", "[2001:db8::/32]", each with an optional
// ":port"; in a deny list "*" too.
func parseHostEntry(s string, kind entryKind) (hostEntry, error) {
	if kind == entryAddress {
		return parseAddressEntry(s)
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		return hostEntry{}, &hinted{fmt.Sprintf("%s is a URL, not a host", clip(s)),
			fmt.Sprintf("write %s without %s:// and path", clip(host), scheme)}
	}
	host, port, err := splitEntryPort(s)
	if err != nil {
		return hostEntry{}, err
	}
	e, err := parseEntryHost(host, kind)
	if err != nil {
		return hostEntry{}, err
	}
	e.port = port
	return e, nil
}

func splitEntryPort(s string) (host string, port uint16, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return s, 0, nil
	}
	if strings.Contains(s[:i], ":") && !strings.HasPrefix(s, "[") {
		return "", 0, &hinted{fmt.Sprintf("%s: an IPv6 address wants brackets", clip(s)),
			`write "[2001:db8::1]" or "[2001:db8::1]:443", quoted`}
	}
	port, err = parsePort(s[i+1:])
	if err != nil {
		return "", 0, &hinted{fmt.Sprintf("%s: %v", clip(s), err), "a host, or HOST:PORT"}
	}
	return s[:i], port, nil
}

func parseEntryHost(host string, kind entryKind) (hostEntry, error) {
	switch {
	case host == "*" && kind == entryDeny:
		return hostEntry{kind: hostAll}, nil
	case host == "*":
		return hostEntry{}, &hinted{"* would allow every host", "name the hosts, or a domain: *.example.com"}
	case strings.HasPrefix(host, "*."):
		return parseWildcard(host, kind)
	case strings.Contains(host, "*"):
		return hostEntry{}, &hinted{fmt.Sprintf("%s: a wildcard stands only at the start", clip(host)),
			"write *.example.com"}
	case strings.HasPrefix(host, "[") && strings.Contains(host, "/"):
		return parsePrefix(strings.Trim(host, "[]"), kind)
	case strings.Contains(host, "/"):
		return parsePrefix(host, kind)
	}
	h, err := ParseHost(host)
	if err != nil {
		return hostEntry{}, err
	}
	if h.IsAddr() {
		return hostEntry{kind: hostPrefix, prefix: netip.PrefixFrom(h.Addr, h.Addr.BitLen())}, nil
	}
	if !strings.Contains(h.Name, ".") && h.Name != "localhost" && kind == entryAllow {
		return hostEntry{}, &hinted{fmt.Sprintf("%s has no dot", clip(host)),
			"write the whole name: what a short one means depends on the resolver"}
	}
	return hostEntry{kind: hostName, name: h.Name}, nil
}

// parseWildcard refuses, where it would allow, a wildcard over names that
// belong to strangers: *.com, *.co.uk, *.github.io.
func parseWildcard(host string, kind entryKind) (hostEntry, error) {
	h, err := ParseHost(host[2:])
	if err != nil {
		return hostEntry{}, err
	}
	if h.IsAddr() {
		return hostEntry{}, &hinted{fmt.Sprintf("%s: a wildcard does not match addresses", clip(host)),
			"write a prefix: 192.0.2.0/24"}
	}
	if kind == entryAllow && (!strings.Contains(h.Name, ".") || isPublicSuffix(h.Name)) {
		return hostEntry{}, &hinted{
			fmt.Sprintf("%s is too broad: anyone can have a name below %s", clip(host), h.Name),
			"name the hosts, or a domain of one owner"}
	}
	return hostEntry{kind: hostBelow, name: h.Name}, nil
}

// isPublicSuffix also knows names whose every child is a suffix, such as
// compute.amazonaws.com.
func isPublicSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	below, _ := publicsuffix.PublicSuffix("a." + name)
	return suffix == name || below == "a."+name
}

func parsePrefix(s string, kind entryKind) (hostEntry, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return hostEntry{}, &hinted{fmt.Sprintf("%s is neither a host nor a prefix", clip(s)),
			"write example.com, 192.0.2.0/24 or [2001:db8::/32]; no path"}
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return hostEntry{}, &hinted{clip(s) + " mixes IPv4 and IPv6", "write the IPv4 prefix"}
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return hostEntry{}, &hinted{clip(s) + " has bits beyond its length", "write " + p.Masked().String()}
	}
	if p.Bits() == 0 && kind == entryAllow {
		return hostEntry{}, &hinted{clip(s) + " would allow every address", "name the prefixes"}
	}
	return hostEntry{kind: hostPrefix, prefix: p}, nil
}

// parseAddressEntry reads an address or prefix, IPv6 with brackets or without.
func parseAddressEntry(s string) (hostEntry, error) {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if strings.Contains(bare, "/") {
		return parsePrefix(bare, entryAddress)
	}
	a, err := netip.ParseAddr(bare)
	if err != nil || a.Zone() != "" {
		return hostEntry{}, &hinted{clip(s) + " is not an address or a prefix",
			"write 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32, without a port"}
	}
	a = a.Unmap()
	return hostEntry{kind: hostPrefix, prefix: netip.PrefixFrom(a, a.BitLen())}, nil
}
