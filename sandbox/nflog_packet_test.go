package sandbox

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func ports(src, dst uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, src), dst)
}

// ipv4 is a packet from 198.18.0.1 with a header of 20 bytes and options.
func ipv4(proto uint8, options int, dst string, srcPort, dstPort uint16) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	b[9] = proto
	copy(b[12:], []byte{198, 18, 0, 1})
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	return append(b, ports(srcPort, dstPort)...)
}

// fragment4 sets the fragment offset, in units of 8 bytes.
func fragment4(b []byte, offset uint16) []byte {
	binary.BigEndian.PutUint16(b[6:], offset)
	return b
}

// ipv6 is a packet whose first header is next.
func ipv6(dst string, next uint8, rest []byte) []byte {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	copy(b[8:], netip.MustParseAddr("fd00::1").AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	return append(b, rest...)
}

// ext is an extension header of n bytes that says so in its length field.
func ext(next uint8, lengthField byte, n int) []byte {
	b := make([]byte, n)
	b[0], b[1] = next, lengthField
	return b
}

func TestPacketHead(t *testing.T) {
	const v6 = "2001:db8::1"
	for name, test := range map[string]struct {
		packet []byte
		dst    string
		proto  int // -1: unknown
		port   uint16
	}{
		"UDP":                          {ipv4(protoUDP, 0, "192.0.2.1", 1, 443), "192.0.2.1", 17, 443},
		"options before the ports":     {ipv4(protoUDP, 8, "192.0.2.1", 1, 443), "192.0.2.1", 17, 443},
		"first fragment":               {fragment4(ipv4(protoUDP, 0, "192.0.2.1", 1, 443), 0x2000), "192.0.2.1", 17, 443},
		"later fragment":               {fragment4(ipv4(protoUDP, 0, "192.0.2.1", 1, 443), 0x2001), "192.0.2.1", 17, 0},
		"ICMP has no ports":            {ipv4(protoICMP, 0, "192.0.2.1", 0x0800, 443), "192.0.2.1", 1, 0},
		"SCTP":                         {ipv4(protoSCTP, 0, "192.0.2.1", 1, 9), "192.0.2.1", 132, 9},
		"header without ports":         {ipv4(protoUDP, 0, "192.0.2.1", 1, 443)[:20], "192.0.2.1", 17, 0},
		"half a port":                  {ipv4(protoUDP, 0, "192.0.2.1", 1, 443)[:23], "192.0.2.1", 17, 0},
		"header length beyond the end": {append([]byte{0x4f}, ipv4(protoUDP, 0, "192.0.2.1", 1, 443)[1:]...), "192.0.2.1", 17, 0},
		"header length too low":        {append([]byte{0x44}, ipv4(protoUDP, 0, "192.0.2.1", 1, 443)[1:]...), "192.0.2.1", 17, 0},
		"cut header":                   {ipv4(protoUDP, 0, "192.0.2.1", 1, 443)[:19], "", -1, 0},
		"nothing":                      {nil, "", -1, 0},
		"version 5":                    {append([]byte{0x55}, make([]byte, 60)...), "", -1, 0},

		"UDP over IPv6":         {ipv6(v6, protoUDP, ports(1, 443)), v6, 17, 443},
		"UDP-Lite over IPv6":    {ipv6(v6, protoUDPLite, ports(1, 53)), v6, 136, 53},
		"ICMPv6":                {ipv6(v6, protoICMPv6, []byte{128, 0, 1, 2}), v6, 58, 0},
		"hop-by-hop":            {ipv6(v6, 0, concat(ext(protoUDP, 0, 8), ports(1, 443))), v6, 17, 443},
		"long options":          {ipv6(v6, protoDstOpts, concat(ext(protoUDP, 2, 24), ports(1, 443))), v6, 17, 443},
		"routing, then options": {ipv6(v6, protoRouting, concat(ext(protoDstOpts, 2, 24), ext(protoUDP, 0, 8), ports(1, 443))), v6, 17, 443},
		"authentication":        {ipv6(v6, protoAH, concat(ext(protoUDP, 4, 24), ports(1, 443))), v6, 17, 443},
		"short authentication":  {ipv6(v6, protoAH, concat(ext(protoUDP, 0, 8), ports(1, 443))), v6, 17, 443},
		"first IPv6 fragment":   {ipv6(v6, protoFragment, concat(ext(protoUDP, 0xff, 8), ports(1, 443))), v6, 17, 443},
		"later IPv6 fragment":   {ipv6(v6, protoFragment, concat([]byte{protoUDP, 0, 0, 9, 0, 0, 0, 0}, ports(1, 443))), v6, 17, 0},
		"no next header":        {ipv6(v6, 59, nil), v6, 59, 0},
		"encrypted":             {ipv6(v6, 50, ports(1, 2)), v6, 50, 0},
		"cut extension":         {ipv6(v6, 0, ext(protoUDP, 4, 24)), v6, -1, 0},
		"cut extension header":  {ipv6(v6, protoFragment, []byte{protoUDP}), v6, -1, 0},
		"no extension at all":   {ipv6(v6, protoRouting, nil), v6, -1, 0},
	} {
		d := parsePacket(test.packet)
		proto := -1
		if d.HasProto {
			proto = int(d.Proto)
		}
		dst := ""
		if d.Dst.IsValid() {
			dst = d.Dst.String()
		}
		if dst != test.dst || proto != test.proto || d.DstPort != test.port {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestRefusedPacketAsEvent(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	dst4, dst6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	const only = "tcp-and-dns-only"
	for name, test := range map[string]struct {
		d      packetDenial
		op     event.Operation
		object event.Object
		errno  string
		reason event.Reason
		rule   string
	}{
		"UDP": {
			packetDenial{Rule: only, Dst: dst4, Proto: 17, HasProto: true, DstPort: 443},
			event.NetUDP, event.Object{Addr: "192.0.2.1", Port: 443, Proto: "udp"}, "EPERM", event.ProtocolDenied, only,
		},
		"ping": {
			packetDenial{Rule: only, Dst: dst4, Proto: 1, HasProto: true},
			event.NetICMP, event.Object{Addr: "192.0.2.1", Proto: "icmp"}, "EPERM", event.ProtocolDenied, only,
		},
		"ping over IPv6": {
			packetDenial{Rule: only, Dst: dst6, Proto: 58, HasProto: true},
			event.NetICMP, event.Object{Addr: "2001:db8::1", Proto: "icmpv6"}, "EACCES", event.ProtocolDenied, only,
		},
		"SCTP": {
			packetDenial{Rule: only, Dst: dst4, Proto: 132, HasProto: true, DstPort: 9},
			event.NetRaw, event.Object{Addr: "192.0.2.1", Port: 9, Proto: "ip:132"}, "EPERM", event.ProtocolDenied, only,
		},
		"protocol 0 is not an unknown one": {
			packetDenial{Rule: only, Dst: dst4, HasProto: true},
			event.NetRaw, event.Object{Addr: "192.0.2.1", Proto: "ip:0"}, "EPERM", event.ProtocolDenied, only,
		},
		"unreadable": {
			packetDenial{Rule: only}, event.NetRaw, event.Object{}, "EPERM", event.ProtocolDenied, only,
		},
		"options": {
			packetDenial{Rule: "no-ip-options", Dst: dst4, Proto: 6, HasProto: true, DstPort: 80},
			event.NetConnect, event.Object{Addr: "192.0.2.1", Port: 80, Proto: "tcp"}, "EPERM", event.UnknownDest, "no-ip-options",
		},
		"no proxy": {
			packetDenial{Rule: "proxy-only", Dst: dst4, Proto: 6, HasProto: true, DstPort: 80},
			event.NetConnect, event.Object{Addr: "192.0.2.1", Port: 80, Proto: "tcp"}, "", event.Unreachable, "proxy-only",
		},
		"an unknown rule is the strictest": {
			packetDenial{Rule: "evil\n", Dst: dst4, Proto: 17, HasProto: true},
			event.NetUDP, event.Object{Addr: "192.0.2.1", Proto: "udp"}, "EPERM", event.ProtocolDenied, only,
		},
	} {
		e := test.d.event(at)
		if e.Verdict != event.Deny || e.Layer != event.LayerNFT || e.Count != 1 || !e.First.Equal(at) || !e.Last.Equal(at) || !e.Time.Equal(at) {
			t.Errorf("%s: frame of %+v", name, e)
		}
		if e.Operation != test.op || e.Object != test.object || e.Errno != test.errno || e.Reason != test.reason || e.Rule != "builtin:"+test.rule {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func FuzzParsePacket(f *testing.F) {
	f.Add(ipv4(protoUDP, 8, "192.0.2.1", 1, 443))
	f.Add(fragment4(ipv4(protoUDP, 0, "192.0.2.1", 1, 443), 0x2001))
	f.Add(ipv6("2001:db8::1", protoRouting, concat(ext(protoDstOpts, 2, 24), ext(protoUDP, 0, 8), ports(1, 443))))
	f.Add(ipv6("2001:db8::1", protoFragment, concat(ext(protoUDP, 0, 8), ports(1, 443))))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := parsePacket(b)
		if d.DstPort != 0 && (!d.HasProto || !d.Dst.IsValid()) {
			t.Errorf("a port without a protocol: %+v", d)
		}
		if len(b) < 20 && d.Dst.IsValid() {
			t.Errorf("an address out of %d bytes", len(b))
		}
		if e := d.event(time.Unix(0, 0)); e.Rule == "" || e.Operation == event.OpUnknown {
			t.Errorf("event %+v", e)
		}
	})
}
