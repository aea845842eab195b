package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// lookupProfile maps what people type to what is looked up (UTS 46). Order
// matters: MapForLookup switches strict names on, and real hosts have
// underscores and "--" in the third place.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// Limits of RFC 1035, 2.3.4, as text without the trailing dot.
const (
	maxName  = 253
	maxLabel = 63
)

var (
	errHostEmpty   = errors.New("empty host name")
	errHostZone    = errors.New("an address with a zone")
	errHostNumeric = errors.New("a number that is not an address in its usual form")
)

// ParseHost makes the one canonical form of a destination: an address, plain
// or in brackets, or a name. It refuses whatever two programs might read
// differently. ParseHost(h.String()) gives h again.
func ParseHost(s string) (Host, error) {
	h, err := parseHost(s)
	if err != nil {
		return Host{}, fmt.Errorf("parse host %s: %w", clip(s), err)
	}
	return h, nil
}

func parseHost(s string) (Host, error) {
	if s == "" {
		return Host{}, errHostEmpty
	}
	if strings.Contains(s, "%") {
		return Host{}, errHostZone
	}
	if strings.Contains(s, ":") {
		return parseIPv6(s)
	}
	if err := checkRaw(s); err != nil {
		return Host{}, err
	}
	name := s
	if !mapsToItself(s) {
		var err error
		if name, err = lookupProfile.ToASCII(s); err != nil {
			return Host{}, fmt.Errorf("not a host name: %w", err)
		}
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if endsInDigit(name) { // as every IPv4 address does
		if addr, err := netip.ParseAddr(name); err == nil {
			return Host{Addr: addr}, nil
		}
	}
	return Host{Name: name}, checkName(name)
}

func endsInDigit(s string) bool { return s != "" && s[len(s)-1] >= '0' && s[len(s)-1] <= '9' }

// mapsToItself reports whether IDNA changes nothing in a name but its case: it
// is plain ASCII, and no label has a second form.
func mapsToItself(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i] | 0x20; { // lower case, of letters
		case 'a' <= c && c <= 'z', nameByte(s[i]), s[i] == '.':
		default:
			return false
		}
		if s[i] == '-' && i >= 3 && s[i-1] == '-' && s[i-2]|0x20 == 'n' && s[i-3]|0x20 == 'x' {
			return false
		}
	}
	return true
}

// parseIPv6 takes "2001:db8::1" and "[2001:db8::1]". An address mapped from
// IPv4 is the IPv4 address: the kernel connects to the same place.
func parseIPv6(s string) (Host, error) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || !addr.Is6() {
		return Host{}, errors.New("a colon outside an IPv6 address")
	}
	return Host{Addr: addr.Unmap()}, nil
}

// checkRaw refuses bytes before IDNA sees them: x/net lets NUL through.
func checkRaw(s string) error {
	if len(s) > 4*maxName {
		return errors.New("too long for a host name")
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || c == '@' {
			return fmt.Errorf("byte %#02x in a host name", c)
		}
	}
	return nil
}

func checkName(name string) error {
	if name == "" {
		return errHostEmpty
	}
	if len(name) > maxName {
		return errors.New("too long for a host name")
	}
	for rest, more := name, true; more; {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if err := checkLabel(label); err != nil {
			return err
		}
		if !more && isNumeric(label) {
			return errHostNumeric
		}
	}
	return nil
}

func checkLabel(l string) error {
	if l == "" || len(l) > maxLabel {
		return errors.New("an empty or overlong label in a host name")
	}
	for _, c := range []byte(l) {
		if !nameByte(c) {
			return fmt.Errorf("byte %#02x in a host name", c)
		}
	}
	if !strings.HasPrefix(l, "xn--") {
		return nil
	}
	// A label that only pretends to be international has a second form.
	u, err := lookupProfile.ToUnicode(l)
	if err != nil || isASCII(u) {
		return errors.New("a malformed international label (xn--)")
	}
	return nil
}

// nameByte reports whether a byte can be in a canonical label. Names that are
// looked up have underscores too.
func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isNumeric reports whether a resolver of the old kind (inet_aton) could take
// a name that ends in this label for an address: 127.1, 0x7f.1, 2130706433.
func isNumeric(label string) bool {
	if strings.HasPrefix(label, "0x") {
		return true
	}
	return strings.Trim(label, "0123456789") == ""
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// ParseNetTarget reads "example.com:443", "192.0.2.1:80" and "[::1]:80".
func ParseNetTarget(s string) (NetRequest, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return NetRequest{}, fmt.Errorf("parse target %s: no port", clip(s))
	}
	host := s[:i]
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return NetRequest{}, fmt.Errorf("parse target %s: an IPv6 address wants brackets", clip(s))
	}
	port, err := parsePort(s[i+1:])
	if err != nil {
		return NetRequest{}, fmt.Errorf("parse target %s: %w", clip(s), err)
	}
	h, err := ParseHost(host)
	if err != nil {
		return NetRequest{}, err
	}
	return NetRequest{Host: h, Port: port}, nil
}

// parsePort takes 1 to 65535 in its one decimal form.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("port %s is not a number from 1 to 65535", clip(s))
	}
	return uint16(n), nil
}

// clip quotes what may be hostile or endless for a message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
