package sandbox

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/mdlayher/netlink"
)

// linux/netfilter/nfnetlink.h and nfnetlink_log.h.
const (
	subsysULOG = 4
	msgPacket  = netlink.HeaderType(subsysULOG << 8)
	msgConfig  = netlink.HeaderType(subsysULOG<<8 | 1)

	cfgCmd     = 1
	cfgMode    = 2
	cfgTimeout = 4
	cfgFlags   = 6

	cfgCmdBind   = 1
	cfgCmdUnbind = 2
	cfgFlagSeq   = 1
	copyPacket   = 2

	attrPayload = 9
	attrPrefix  = 10
	attrSeq     = 12

	headerLen    = 16 // struct nlmsghdr
	genHeaderLen = 4  // struct nfgenmsg
)

// packetDenial is a packet that the rules refused, as far as its head could be
// read.
type packetDenial struct {
	Rule     string // the log prefix: what refused it
	Src, Dst netip.Addr
	// Proto is the IP protocol behind all extension headers. It is unknown
	// (HasProto false) in a header that is cut off or damaged.
	Proto    uint8
	HasProto bool
	// SrcPort and DstPort are 0 for a protocol without ports and where they
	// are out of sight, in a later fragment for example.
	SrcPort, DstPort uint16
}

// parseNFLOG calls emit for each record in what one recvmsg(2) returned. It
// reports done when it meets the kernel's answer to a request: with a nil
// error if the request was granted.
func parseNFLOG(b []byte, emit func(seq uint32, d packetDenial)) (done bool, err error) {
	for len(b) >= headerLen {
		m, rest, err := nextMessage(b)
		if err != nil {
			return false, err
		}
		b = rest
		switch m.Header.Type {
		case msgPacket:
			seq, d, err := parseRecord(m.Data)
			if err != nil {
				return false, err
			}
			emit(seq, d)
		case netlink.Error:
			return true, answer(m.Data)
		}
	}
	return false, nil
}

func nextMessage(b []byte) (m netlink.Message, rest []byte, err error) {
	length := uint64(binary.NativeEndian.Uint32(b))
	end := min((length+3)&^3, uint64(len(b)))
	if length < headerLen || length > end {
		return m, nil, fmt.Errorf("parse nflog: message of %d bytes in %d", length, len(b))
	}
	if err := m.UnmarshalBinary(b[:end]); err != nil {
		return m, nil, fmt.Errorf("parse nflog: %w", err)
	}
	return m, b[end:], nil
}

// answer reads struct nlmsgerr, which begins with a negated errno.
func answer(b []byte) error {
	if len(b) < 4 {
		return fmt.Errorf("parse nflog: answer of %d bytes", len(b))
	}
	if code := int32(binary.NativeEndian.Uint32(b)); code != 0 {
		return fmt.Errorf("stop nflog: %w", syscall.Errno(-code))
	}
	return nil
}

func parseRecord(b []byte) (seq uint32, d packetDenial, err error) {
	if len(b) < genHeaderLen {
		return 0, d, fmt.Errorf("parse nflog: record of %d bytes", len(b))
	}
	ad, err := netlink.NewAttributeDecoder(b[genHeaderLen:])
	if err != nil {
		return 0, d, fmt.Errorf("parse nflog: %w", err)
	}
	ad.ByteOrder = binary.BigEndian
	var rule string
	for ad.Next() {
		switch ad.Type() {
		case attrPayload:
			d = parsePacket(ad.Bytes())
		case attrPrefix:
			rule = ad.String()
		case attrSeq:
			seq = ad.Uint32()
		}
	}
	if err := ad.Err(); err != nil {
		return 0, d, fmt.Errorf("parse nflog: %w", err)
	}
	d.Rule = rule
	return seq, d, nil
}

// sequence finds holes in the numbers the kernel gives to records, from 0.
type sequence struct {
	want uint32
	// owed counts losses reported before the hole they left was seen.
	owed uint64
}

// next takes the number of a record and returns how many before it were lost
// and not reported yet.
func (s *sequence) next(seq uint32) uint64 {
	hole := uint64(seq - s.want) // the counter wraps
	s.want = seq + 1
	known := min(hole, s.owed) // records from before the loss may still follow it
	s.owed -= known
	return hole - known
}

// overrun takes the news that the receive buffer was full. How much was lost
// shows at the next record, if one follows; at least one was.
func (s *sequence) overrun() uint64 {
	if s.owed > 0 {
		return 0
	}
	s.owed = 1
	return 1
}
