package proxy

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	asks "github.com/sallyport/sallyport/proxy/ask"
)

// How a client asked for what it wants.
const (
	viaTransparent = "transparent"
	viaConnect     = "connect"
	viaSOCKS5      = "socks5"
	viaHTTP        = "http"
)

// decide asks the policy and, where that leaves it open, whoever is there to be
// asked. The connection waits.
func (s *session) decide(req policy.NetRequest) policy.Decision {
	asked := time.Now()
	d := s.p.cfg.Decider.DecideNet(req)
	s.p.count.decided(asked)
	if _, can := s.p.cfg.Decider.(AskedDecider); d.Allowed() || !d.Ask || !can || s.p.cfg.Ask == nil {
		return d
	}
	q := asks.Question{Req: req, Kind: asks.KindConnect, Via: s.via, Default: d}
	if s.via == viaHTTP {
		q.Kind = asks.KindHTTP
	}
	q.Process, _ = s.who()
	ctx, cancel := context.WithCancel(s.p.ctx)
	defer cancel()
	go s.cancelWhenGone(ctx, cancel)
	return s.p.cfg.Ask(ctx, q)
}

// goneEvery is how often it is looked whether a client that waits is there.
const goneEvery = time.Second

// cancelWhenGone ends ctx when the client has gone. What it has sent is not
// read: that is the destination's.
func (s *session) cancelWhenGone(ctx context.Context, cancel func()) {
	tick := time.NewTicker(goneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// Who waits for an answer to CONNECT or SOCKS5 has not sent all it has to
			// send; a captured client may have (shutdown(2)).
			if gone(s.conn, s.via != viaTransparent) {
				cancel()
				return
			}
		}
	}
}

// stillAllowed decides a further request on a connection that was allowed by d:
// an answer of the user's holds for as long as nothing forbids it.
func (p *Proxy) stillAllowed(req policy.NetRequest, d policy.Decision) bool {
	now := p.cfg.Decider.DecideNet(req)
	return now.Allowed() || now.Ask && d.Verdict == event.AskAllowed
}
