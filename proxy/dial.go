package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// refusedError is a way out that the policy refused after the name was allowed.
type refusedError struct {
	addr netip.Addr
	d    policy.Decision
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("dial: %s refused: %s", e.addr, e.d.Reason)
}

// attemptDelay is how long one address is tried before the next is tried beside
// it (RFC 8305, section 5).
const attemptDelay = 250 * time.Millisecond

// maxAttempts bounds the addresses that are tried, so that a name with many of
// them does not make one connection a flood.
const maxAttempts = 8

// dial reaches an allowed destination: resolves it once, checks every address
// and dials one that was checked. A *refusedError says that an address was not
// allowed; then nothing was dialled.
func (p *Proxy) dial(ctx context.Context, req policy.NetRequest, granted policy.Decision) (stream, error) {
	parent := p.parent(req)
	if parent != nil && parent.ByHostname && !req.Host.IsAddr() {
		return parent.connect(ctx, p, req.Host.Name, req.Port)
	}
	addrs, err := p.addresses(ctx, req, granted)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.DialTimeout)
	defer cancel()
	return race(ctx, addrs, func(ctx context.Context, a netip.Addr) (stream, error) {
		if parent != nil {
			return parent.connect(ctx, p, a.String(), req.Port)
		}
		return p.dialAddr(ctx, netip.AddrPortFrom(a, req.Port))
	})
}

// addresses gives the checked addresses of a destination. One refused address
// refuses all: a name that resolves to a public and to a private address is how
// DNS rebinding looks, and to dial only the public one would make the refusal
// depend on luck.
func (p *Proxy) addresses(ctx context.Context, req policy.NetRequest, granted policy.Decision) ([]netip.Addr, error) {
	addrs := []netip.Addr{req.Host.Addr}
	if !req.Host.IsAddr() {
		var err error
		if addrs, err = p.lookUp(ctx, req.Host.Name); err != nil {
			return nil, err
		}
	}
	for i, a := range addrs {
		if a.Zone() != "" || !a.IsValid() {
			return nil, &refusedError{a, builtin("address-with-zone", event.AddressDenied)}
		}
		addrs[i] = a.Unmap()
		if d := p.checkAddr(req, addrs[i], granted); !d.Allowed() {
			return nil, &refusedError{addrs[i], d}
		}
	}
	return addrs[:min(len(addrs), maxAttempts)], nil
}

// checkAddr decides one address. The proxy itself is never dialled, whatever
// the policy says: a loop would let one connection become many.
func (p *Proxy) checkAddr(req policy.NetRequest, a netip.Addr, granted policy.Decision) policy.Decision {
	if fakeRange.Contains(a) {
		return builtin("proxy-address", event.AddressDenied)
	}
	for _, s := range p.cfg.Self {
		if s.Addr().Unmap() == a {
			return builtin("proxy-address", event.AddressDenied)
		}
	}
	if asked, ok := p.cfg.Decider.(AskedDecider); ok && granted.Verdict == event.AskAllowed {
		return asked.DecideAsked(granted, req, a)
	}
	return p.cfg.Decider.DecideResolved(req, a)
}

func (p *Proxy) dialAddr(ctx context.Context, a netip.AddrPort) (stream, error) {
	c, err := p.cfg.Dial(ctx, "tcp", a.String())
	if err != nil {
		return nil, err
	}
	s, ok := c.(stream)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("dial %s: cannot half-close a %T", a, c)
	}
	return s, nil
}

// race tries addresses one after the other, the next when the last has failed
// or is slow, and gives the first connection.
func race(ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) (stream, error)) (stream, error) {
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		c   stream
		err error
	}
	// Unbuffered with a way out: a connection nobody takes is closed.
	results := make(chan result)
	start := func(a netip.Addr) {
		c, err := dial(ctx, a)
		select {
		case results <- result{c, err}:
		case <-ctx.Done():
			if c != nil {
				c.Close()
			}
		}
	}
	var errs []error
	next, running := 0, 0
	slow := time.NewTimer(0)
	defer slow.Stop()
	for next < len(addrs) || running > 0 {
		var tick <-chan time.Time
		if next < len(addrs) {
			tick = slow.C
		}
		select {
		case <-tick:
			go start(addrs[next])
			next++
			running++
			slow.Reset(attemptDelay)
		case r := <-results:
			running--
			if r.err == nil {
				return r.c, nil
			}
			errs = append(errs, r.err)
			slow.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
	}
	return nil, errors.Join(errs...)
}

// isTimeout reports whether a way out failed for want of an answer.
func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
