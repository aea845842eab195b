package sallyport

import (
	"net/netip"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy"
)

// live is a run's policy, replaced whole while connections are decided. One
// decision is made by one policy: an address is decided together with its host,
// so that no two policies between them allow what neither does.
type live struct {
	start *policy.Policy // what the sandbox is built of
	now   atomic.Pointer[policy.Policy]
}

func newLive(p *policy.Policy) *live {
	l := &live{start: p}
	l.now.Store(p)
	return l
}

// of gives the policy that decides what an event tells of.
func (l *live) of(e event.Event) *policy.Policy {
	if e.Operation == event.NetConnect || e.Operation == event.NetDNS {
		return l.now.Load()
	}
	return l.start
}

func (l *live) DecideNet(r policy.NetRequest) policy.Decision { return l.now.Load().DecideNet(r) }
func (l *live) DecideName(h policy.Host) policy.Decision      { return l.now.Load().DecideName(h) }

func (l *live) DecideResolved(r policy.NetRequest, a netip.Addr) policy.Decision {
	return l.now.Load().DecideResolved(r, a)
}

func (l *live) AllowNoSNI(r policy.NetRequest) (policy.Rule, bool) { return l.now.Load().AllowNoSNI(r) }

func (l *live) AllowUpgrade(r policy.NetRequest) (policy.Rule, bool) {
	return l.now.Load().AllowUpgrade(r)
}

func (l *live) parent(r policy.NetRequest) *proxy.Parent { return parents(l.now.Load())(r) }

func (l *live) DecideAsked(granted policy.Decision, r policy.NetRequest, a netip.Addr) policy.Decision {
	return l.now.Load().DecideAsked(granted, r, a)
}
