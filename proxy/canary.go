package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net/netip"
	"sync/atomic"
)

// Canary is how the sandbox proves, before the command starts, that what it
// connects to ends here: one connection to Addr that sends Token is answered
// with the token's SHA-256. It is neither counted nor recorded. After that, or
// after a wrong token, Addr is an address like any other.
type Canary struct {
	Addr  netip.AddrPort
	Token [32]byte
}

type canaryState struct{ spent atomic.Bool }

// serveCanary reports whether the connection was the canary.
func (s *session) serveCanary() bool {
	c := &s.p.cfg.Canary
	if !c.Addr.IsValid() || s.ends.Origin != unmapPort(c.Addr) || c.Token == [32]byte{} {
		return false
	}
	if !s.p.canary.spent.CompareAndSwap(false, true) {
		return false
	}
	s.readWithin(s.p.cfg.Limits.HelloTimeout)
	defer s.readWithin(0)
	var got [32]byte
	if _, err := io.ReadFull(s.conn, got[:]); err != nil {
		return false
	}
	if subtle.ConstantTimeCompare(got[:], c.Token[:]) != 1 {
		return false
	}
	s.p.count.conns.Add(^uint64(0))
	sum := sha256.Sum256(got[:])
	s.conn.Write(sum[:])
	s.conn.Close()
	return true
}
