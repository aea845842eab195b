// Package proxy owns the one way out of a sandbox: it accepts what the sandbox
// connects to, answers its DNS queries, asks the policy, dials the address that
// was checked and copies. Every refusal becomes one event; what was let through
// becomes one event a process, host and port.
//
// It never resolves or dials anything outside before a connection is allowed,
// never hands a name to the dialler, and never trusts a name that two programs
// might read differently: policy.ParseHost makes the one form that is matched,
// recorded and resolved.
//
// Lifetimes: the listeners belong to the Proxy from Serve on. Close ends every
// connection and flushes the aggregated events; Emit is not called after it
// returns.
package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	asks "github.com/sallyport/sallyport/proxy/ask"
)

// Decider is the policy as the proxy needs it. It must be safe for concurrent
// use, and fast: it is asked for every connection, request and look-up.
type Decider interface {
	DecideNet(policy.NetRequest) policy.Decision
	DecideResolved(policy.NetRequest, netip.Addr) policy.Decision
	DecideName(policy.Host) policy.Decision
}

// A Decider may grant exceptions by implementing these besides; else there are
// none.
type (
	// NoSNIDecider lets port 443 go without TLS, or TLS without a server name.
	NoSNIDecider interface {
		AllowNoSNI(policy.NetRequest) (policy.Rule, bool)
	}
	// UpgradeDecider lets plain HTTP/1.1 change to another protocol, as WebSocket
	// does; never to HTTP/2.
	UpgradeDecider interface {
		AllowUpgrade(policy.NetRequest) (policy.Rule, bool)
	}
	// AskedDecider decides the address of what Config.Ask allowed; without it
	// nothing is asked.
	AskedDecider interface {
		DecideAsked(granted policy.Decision, req policy.NetRequest, addr netip.Addr) policy.Decision
	}
)

// Resolver is the part of net.Resolver that is used. Names with a dot in them
// come with a final one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Endpoints are the two ends of an attempt as the sandbox's kernel sees them.
type Endpoints struct {
	Proto  string         // "tcp", "udp" or "unix"
	Client netip.AddrPort // of the process; invalid for "unix"
	Origin netip.AddrPort // what the process connected to; invalid for "unix"
	Socket uint64         // inode of our end, for "unix"
}

// Config says how a Proxy decides and what it reports. Decider and Emit are
// needed; the zero value of everything else is a working default.
type Config struct {
	Decider Decider
	// Emit takes one event. It is called from many goroutines and must not block.
	Emit func(event.Event)
	// ProcessOf finds who is at the other end, and its ancestors; nil results
	// where that is not known. It is called once a connection.
	ProcessOf func(Endpoints) (*event.Process, []event.Process)
	// Ask, if set, decides what the policy leaves open. It may take its time: the
	// connection waits, and ends the context if it goes away.
	Ask func(context.Context, asks.Question) policy.Decision
	// Self lists the addresses at which the sandbox finds an explicit proxy: a
	// connection to one speaks HTTP or SOCKS5, all others are transparent.
	Self []netip.AddrPort
	// Token, if set, is the password of TokenUser that explicit clients must give.
	Token  string
	Canary Canary
	// Dial and Resolver reach the outside; but for a parent's, Dial only ever gets
	// addresses.
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	Resolver Resolver
	// Parent, if set, gives the proxy through which a destination is dialled, nil
	// for one that is reached directly.
	Parent func(policy.NetRequest) *Parent
	Limits Limits
	// Origin finds the original destination of a connection: under TPROXY it is
	// the local address, the default.
	Origin func(net.Conn) (netip.AddrPort, error)
}

// Listeners are live in the sandbox's network namespace. All are optional.
type Listeners struct {
	TCP       []net.Listener // IP_TRANSPARENT, one a family
	Unix      net.Listener   // an explicit proxy as a unix socket; see ServeUnix
	DNSPacket *net.UDPConn   // [::]:53
	DNSStream net.Listener
}

// Proxy serves one sandbox.
type Proxy struct {
	cfg    Config
	fakes  *fakeTable
	count  counters
	mem    memory
	allows *aggregate
	twins  twinQueries
	// answers are the outside's.
	answers answers
	canary  canaryState

	ctx  context.Context // ends with Close; bounds look-ups and dials
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	open   map[closer]struct{} // listeners and connections, to end them
	closed bool
}

type closer interface{ Close() error }

// New makes a Proxy. Nothing runs before Serve.
func New(cfg Config) (*Proxy, error) {
	if cfg.Decider == nil || cfg.Emit == nil {
		return nil, errors.New("make proxy: Decider and Emit are needed")
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if cfg.Resolver == nil {
		cfg.Resolver = &net.Resolver{PreferGo: true}
	}
	if cfg.Origin == nil {
		cfg.Origin = localAddr
	}
	if cfg.ProcessOf == nil {
		cfg.ProcessOf = func(Endpoints) (*event.Process, []event.Process) { return nil, nil }
	}
	cfg.Limits = cfg.Limits.withDefaults(maxDescriptors())
	p := &Proxy{cfg: cfg, fakes: newFakeTable(), open: map[closer]struct{}{}}
	p.mem.set(cfg.Limits.Memory)
	p.allows = newAggregate(p.emit)
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// Serve accepts until ctx ends or Close is called, closes what it was given and
// returns nil once every connection has ended. It can be called once.
func (p *Proxy) Serve(ctx context.Context, ls Listeners) error {
	defer p.Close()
	defer context.AfterFunc(ctx, func() { p.Close() })()
	for _, l := range ls.TCP {
		p.goTracked(l, func() { p.acceptLoop(l, p.serveCaptured) })
	}
	if ls.Unix != nil {
		p.ServeUnix(ls.Unix)
	}
	if ls.DNSStream != nil {
		p.goTracked(ls.DNSStream, func() { p.acceptLoop(ls.DNSStream, p.serveDNSStream) })
	}
	if ls.DNSPacket != nil {
		if err := preparePackets(ls.DNSPacket); err != nil {
			return err
		}
		p.goTracked(ls.DNSPacket, func() { p.serveDNSPackets(ls.DNSPacket) })
	}
	p.goTracked(nil, p.flushLoop)
	<-p.ctx.Done()
	return nil
}

// ServeUnix serves one more unix socket, while Serve serves the rest: one that
// could be made only later.
func (p *Proxy) ServeUnix(l net.Listener) {
	p.goTracked(l, func() { p.acceptLoop(l, p.serveUnix) })
}

// Close ends every connection and returns when all have ended and the events of
// allowed connections have been emitted.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.stop()
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	p.allows.flush(time.Time{})
	return nil
}

// track makes Close end c. It reports false, and closes c, after Close.
func (p *Proxy) track(c closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *Proxy) untrack(c closer) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// goTracked runs f until it returns; Close closes c, if any, and waits for f.
func (p *Proxy) goTracked(c closer, f func()) {
	if c != nil && !p.track(c) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		if c != nil {
			defer p.untrack(c)
			defer c.Close()
		}
		f()
	}()
}

// flushLoop emits what was allowed once its connections have been over for a while.
func (p *Proxy) flushLoop() {
	tick := time.NewTicker(p.cfg.Limits.AllowQuiet / 2)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.allows.flush(now.Add(-p.cfg.Limits.AllowQuiet))
		}
	}
}

// localAddr is the original destination of a connection that TPROXY captured.
func localAddr(c net.Conn) (netip.AddrPort, error) {
	a, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, errors.New("find destination: not a TCP connection")
	}
	return a.AddrPort(), nil
}
