package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// Sockets are the proxy's ends of the sandbox's network: they live in its
// namespace and are served from outside.
type Sockets struct {
	TCP       []net.Listener // one a family
	DNSPacket *net.UDPConn
	DNSStream net.Listener
	nflog     *os.File
	unix      net.Listener // made last, by stage 2
}

// adoptSockets makes Go's sockets of the sandbox's.
func adoptSockets(n *netSockets) (*Sockets, error) {
	defer n.DNSUDP.Close() // net makes copies
	s := &Sockets{nflog: n.NFLOG}
	packet, err := net.FilePacketConn(n.DNSUDP)
	if err != nil {
		return nil, fmt.Errorf("receive DNS socket: %w", err)
	}
	s.DNSPacket = packet.(*net.UDPConn)
	for _, f := range []*os.File{n.DNSTCP, n.TCP4, n.TCP6} {
		if f == nil {
			continue
		}
		defer f.Close()
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("receive listener: %w", err)
		}
		if f == n.DNSTCP {
			s.DNSStream = l
		} else {
			s.TCP = append(s.TCP, l)
		}
	}
	return s, nil
}

// adoptUnix takes the unix socket of the sandbox's proxy. Its file is inside: to
// close it removes nothing here.
func (s *Sockets) adoptUnix(fd int) error {
	f := os.NewFile(uintptr(fd), "proxy socket")
	if f == nil {
		return errors.New("start stage 2: it sent no socket for the proxy")
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("receive the proxy's unix socket: %w", err)
	}
	s.unix = l
	return nil
}

// Close closes the sockets, for who does not hand them to a proxy. What a proxy
// has closed already is closed.
func (s *Sockets) Close() error {
	if s == nil {
		return nil
	}
	errs := []error{s.DNSPacket.Close(), s.DNSStream.Close(), s.nflog.Close()}
	if s.unix != nil {
		errs = append(errs, s.unix.Close())
	}
	for _, l := range s.TCP {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// ReadPackets gives an event for every packet that the sandbox's rules refused,
// until StopPackets. lost is told how many left no record.
func (s *Sandbox) ReadPackets(emit func(event.Event), lost func(n uint64)) error {
	return readNFLOG(s.sockets.nflog, func(d packetDenial) {
		e := d.event(time.Now())
		if d.HasProto && d.Proto == protoUDP && d.SrcPort != 0 {
			e.Process, e.Ancestors = s.ProcessOf("udp", netip.AddrPortFrom(d.Src, d.SrcPort), netip.AddrPortFrom(d.Dst, d.DstPort))
		}
		emit(e)
	}, lost)
}

// StopPackets makes ReadPackets return once everything up to now has been read.
func (s *Sandbox) StopPackets() error {
	return stopNFLOG(s.sockets.nflog, plan.DefaultNetwork().NFLOGGroup)
}
