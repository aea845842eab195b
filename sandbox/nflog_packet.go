package sandbox

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// IP protocol numbers (IANA).
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDstOpts  = 60
	protoSCTP     = 132
	protoUDPLite  = 136
)

// parsePacket reads the head of an IP packet. There is no error: a packet was
// refused, whatever its bytes are, and what cannot be read stays zero.
func parsePacket(b []byte) packetDenial {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return parseIPv4(b)
	case len(b) >= 40 && b[0]>>4 == 6:
		return parseIPv6(b)
	}
	return packetDenial{}
}

func parseIPv4(b []byte) packetDenial {
	d := packetDenial{
		Src:      netip.AddrFrom4([4]byte(b[12:16])),
		Dst:      netip.AddrFrom4([4]byte(b[16:20])),
		Proto:    b[9],
		HasProto: true,
	}
	const offsetMask = 0x1fff
	head := int(b[0]&0x0f) * 4
	first := binary.BigEndian.Uint16(b[6:])&offsetMask == 0
	if first && head >= 20 && head <= len(b) {
		d.parsePorts(b[head:])
	}
	return d
}

func parseIPv6(b []byte) packetDenial {
	d := packetDenial{
		Src: netip.AddrFrom16([16]byte(b[8:24])),
		Dst: netip.AddrFrom16([16]byte(b[24:40])),
	}
	next, rest := b[6], b[40:]
	for isExtension(next) {
		size := extensionSize(next, rest)
		if size > len(rest) {
			return d
		}
		const offsetMask = 0xfff8 // RFC 8200, section 4.5
		if next == protoFragment && binary.BigEndian.Uint16(rest[2:])&offsetMask != 0 {
			d.Proto, d.HasProto = rest[0], true
			return d
		}
		next, rest = rest[0], rest[size:]
	}
	d.Proto, d.HasProto = next, true
	d.parsePorts(rest)
	return d
}

func isExtension(next uint8) bool {
	switch next {
	case protoHopByHop, protoRouting, protoFragment, protoAH, protoDstOpts:
		return true
	}
	return false
}

// extensionSize is the length of the extension header at the start of b, at
// least 8 bytes.
func extensionSize(kind uint8, b []byte) int {
	switch {
	case kind == protoFragment || len(b) < 8:
		return 8
	case kind == protoAH: // RFC 4302, section 2.2: words of 4 bytes, less 2
		return max(8, (int(b[1])+2)*4)
	}
	return (int(b[1]) + 1) * 8 // RFC 8200, section 4.2
}

// parsePorts reads the ports of the protocols that begin with them.
func (d *packetDenial) parsePorts(b []byte) {
	switch d.Proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if len(b) >= 4 {
			d.SrcPort = binary.BigEndian.Uint16(b)
			d.DstPort = binary.BigEndian.Uint16(b[2:])
		}
	}
}

// event says d in the schema that every layer shares.
func (d packetDenial) event(at time.Time) event.Event {
	e := event.Event{
		Schema:    event.SchemaVersion,
		Time:      at,
		Verdict:   event.Deny,
		Layer:     event.LayerNFT,
		Operation: d.operation(),
		Object:    event.Object{Port: d.DstPort, Proto: d.protoName()},
		Errno:     d.errno(),
		Reason:    event.ProtocolDenied,
		Rule:      "builtin:" + plan.RuleTCPAndDNSOnly,
		Count:     1,
		First:     at,
		Last:      at,
	}
	if d.Dst.IsValid() {
		e.Object.Addr = d.Dst.Unmap().String()
	}
	switch d.Rule {
	case plan.RuleNoIPOptions:
		e.Rule, e.Reason = "builtin:"+d.Rule, event.UnknownDest
		e.Detail = "the packet carries IP options or a routing header"
	case plan.RuleProxyOnly:
		e.Rule, e.Reason = "builtin:"+d.Rule, event.Unreachable
		e.Detail = "the proxy no longer listens"
	}
	return e
}

// errno is what the sender sees: EPERM from the output hook at once, except
// that an ICMPv6 socket drops that and gets the rejection's own error later.
func (d packetDenial) errno() string {
	switch {
	case d.Rule == plan.RuleProxyOnly:
		return "" // it waits until it gives up
	case d.HasProto && d.Proto == protoICMPv6:
		return "EACCES"
	}
	return "EPERM"
}

func (d packetDenial) operation() event.Operation {
	switch {
	case !d.HasProto:
		return event.NetRaw
	case d.Proto == protoTCP:
		return event.NetConnect
	case d.Proto == protoUDP:
		return event.NetUDP
	case d.Proto == protoICMP, d.Proto == protoICMPv6:
		return event.NetICMP
	}
	return event.NetRaw
}

func (d packetDenial) protoName() string {
	switch {
	case !d.HasProto:
		return ""
	case d.Proto == protoTCP:
		return "tcp"
	case d.Proto == protoUDP:
		return "udp"
	case d.Proto == protoICMP:
		return "icmp"
	case d.Proto == protoICMPv6:
		return "icmpv6"
	}
	return fmt.Sprintf("ip:%d", d.Proto)
}
