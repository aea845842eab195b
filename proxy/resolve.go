package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// answers are the addresses of names that were just looked up: a client that
// opens a hundred connections makes one look-up, not a hundred. Every connection
// has its addresses decided anew.
type answers struct {
	mu sync.Mutex
	by map[string]answer
}

type answer struct {
	addrs []netip.Addr
	until time.Time
}

// maxAnswers bounds them; they are few, since they are forgotten so soon.
const maxAnswers = 1024

func (a *answers) get(name string) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.by[name]; ok && time.Now().Before(known.until) {
		return slices.Clone(known.addrs)
	}
	return nil
}

func (a *answers) put(name string, addrs []netip.Addr, during time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil || len(a.by) >= maxAnswers {
		a.by = map[string]answer{}
	}
	a.by[name] = answer{slices.Clone(addrs), time.Now().Add(during)}
}

// lookUp gives the addresses of a name, at least one.
func (p *Proxy) lookUp(ctx context.Context, name string) ([]netip.Addr, error) {
	if addrs := p.answers.get(name); addrs != nil {
		return addrs, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.ResolveTimeout)
	defer cancel()
	p.count.resolved.Add(1)
	addrs, err := p.cfg.Resolver.LookupNetIP(ctx, "ip", absolute(name))
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", name, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve %s: no address", name)
	}
	p.answers.put(name, addrs, p.cfg.Limits.ResolveFor)
	return addrs, nil
}

// absolute keeps the host's search list away from a name with a dot: else
// "ok.com" that does not exist becomes "ok.com.corp.example", which nobody
// allowed. A single label is found through the list or not at all.
func absolute(name string) string {
	if strings.Contains(name, ".") {
		return name + "."
	}
	return name
}
