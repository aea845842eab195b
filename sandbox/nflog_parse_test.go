package sandbox

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"syscall"
	"testing"

	"github.com/mdlayher/netlink"
)

// record is one NFLOG record as the kernel sends it.
func nflogRecord(t testing.TB, seq uint32, prefix string, packet []byte) []byte {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.Bytes(1, []byte{0x08, 0, 3, 0}) // struct nfulnl_msg_packet_hdr
	ae.String(attrPrefix, prefix)
	ae.Bytes(attrPayload, packet)
	ae.Uint32(attrSeq, seq)
	attrs, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return message(t, msgPacket, append([]byte{2, 0, 0, 1}, attrs...))
}

func message(t testing.TB, typ netlink.HeaderType, data []byte) []byte {
	t.Helper()
	for len(data)%4 != 0 {
		data = append(data, 0)
	}
	m := netlink.Message{Header: netlink.Header{Type: typ, Length: uint32(headerLen + len(data))}, Data: data}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func errorMessage(t testing.TB, errno syscall.Errno) []byte {
	t.Helper()
	body := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	return message(t, netlink.Error, append(body, make([]byte, 16)...))
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

type numbered struct {
	seq uint32
	d   packetDenial
}

func TestNFLOGBatchIsReadInOrder(t *testing.T) {
	b := concat(
		nflogRecord(t, 7, "tcp-and-dns-only", ipv4(protoUDP, 0, "192.0.2.1", 0x0102, 443)),
		nflogRecord(t, 8, "no-ip-options", nil),
		message(t, netlink.Done, nil),
		errorMessage(t, 0),
	)
	var got []numbered
	done, err := parseNFLOG(b, func(seq uint32, d packetDenial) { got = append(got, numbered{seq, d}) })
	want := []numbered{
		{7, packetDenial{
			Rule: "tcp-and-dns-only", Src: netip.MustParseAddr("198.18.0.1"), Dst: netip.MustParseAddr("192.0.2.1"),
			Proto: protoUDP, HasProto: true, SrcPort: 0x0102, DstPort: 443,
		}},
		{8, packetDenial{Rule: "no-ip-options"}},
	}
	if !done || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("done %v, err %v, got %+v", done, err, got)
	}
}

func TestNFLOGReadingEndsWithTheKernelsAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		done  bool
		err   error // nil: none, errAny: any
	}{
		"granted":         {errorMessage(t, 0), true, nil},
		"refused":         {errorMessage(t, syscall.EPERM), true, syscall.EPERM},
		"nothing":         {nil, false, nil},
		"empty answer":    {message(t, netlink.Error, nil), true, errAny},
		"cut header":      {errorMessage(t, 0)[:15], false, nil},
		"cut message":     {errorMessage(t, 0)[:20], false, errAny},
		"length too low":  {append([]byte{15, 0, 0, 0}, make([]byte, 12)...), false, errAny},
		"length too high": {append([]byte{255, 255, 255, 255}, make([]byte, 12)...), false, errAny},
		"no body":         {message(t, msgPacket, nil), false, errAny},
		"bad attribute":   {message(t, msgPacket, []byte{2, 0, 0, 1, 3, 0, 9, 0}), false, errAny},
	} {
		done, err := parseNFLOG(test.bytes, func(uint32, packetDenial) {})
		if done != test.done || !(err == nil && test.err == nil || errors.Is(err, test.err) || err != nil && test.err == errAny) {
			t.Errorf("%s: done %v, err %v", name, done, err)
		}
	}
}

var errAny = errors.New("any error")

func TestLossIsCountedOnceFromHolesAndOverruns(t *testing.T) {
	const overrun = -1
	for name, test := range map[string]struct {
		news []int64 // sequence numbers, or overrun
		want uint64
	}{
		"none":                                   {[]int64{0, 1, 2}, 0},
		"before the first":                       {[]int64{3, 4}, 3},
		"a hole":                                 {[]int64{0, 5}, 4},
		"an overrun and its hole":                {[]int64{0, overrun, 5}, 4},
		"an overrun whose hole comes late":       {[]int64{0, overrun, 1, 2, 6}, 3},
		"two overruns before one hole":           {[]int64{0, overrun, overrun, 5}, 4},
		"two overruns, two holes":                {[]int64{0, overrun, 2, overrun, 4}, 2},
		"an overrun at the end":                  {[]int64{0, 1, overrun}, 1},
		"the counter wraps":                      {[]int64{1<<32 - 2, 1<<32 - 1, 0, 2}, 1<<32 - 2 + 1},
		"an overrun, then a hole, then the next": {[]int64{overrun, 3, 4, 6}, 4},
	} {
		var s sequence
		var got uint64
		for _, n := range test.news {
			if n == overrun {
				got += s.overrun()
			} else {
				got += s.next(uint32(n))
			}
		}
		if got != test.want {
			t.Errorf("%s: %d lost, want %d", name, got, test.want)
		}
	}
}

func FuzzParseNFLOG(f *testing.F) {
	f.Add(nflogRecord(f, 1, "tcp-and-dns-only", ipv4(protoUDP, 0, "192.0.2.1", 1, 443)))
	f.Add(concat(nflogRecord(f, 1, "x", ipv6("2001:db8::1", protoUDP, ports(1, 2))), errorMessage(f, syscall.EPERM)))
	f.Add(message(f, msgPacket, []byte{2, 0, 0, 1, 3, 0, 9, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		records := 0
		parseNFLOG(b, func(_ uint32, d packetDenial) { records++ })
		if records > len(b)/headerLen {
			t.Errorf("%d records in %d bytes", records, len(b))
		}
	})
}
