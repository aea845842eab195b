package sallyport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy"
)

// openPorts opens the ports that the policy names, both ways, before the command
// starts. Each leads to one port of a loopback: neither side can name another.
func (r *run) openPorts() error {
	for _, rule := range r.prep.policy.HostPorts() {
		if err := r.openHostPort(rule); err != nil {
			return err
		}
	}
	for _, rule := range r.prep.policy.Publish() {
		if err := r.publish(rule); err != nil {
			return err
		}
	}
	return nil
}

// openHostPort listens in the sandbox for a port of the host.
func (r *run) openHostPort(rule policy.HostPort) error {
	inside, err := r.box.ListenInside(rule.Port)
	if err != nil {
		return fmt.Errorf("%s: open port %d of the host: %w", rule.Rule, rule.Port, err)
	}
	r.proxy.Forward(proxy.Forward{
		Listeners: inside, Inside: true, Operation: event.NetConnect, Rule: rule.Rule,
		Object: event.Object{Host: "localhost", Addr: "127.0.0.1", Port: rule.Port, Proto: "tcp"},
		Dial: func(ctx context.Context, from net.Conn) (net.Conn, error) {
			return dialLoopback(ctx, from.LocalAddr(), rule.Port)
		},
	})
	return nil
}

// dialLoopback reaches a server of this host's loopback, in the family in which
// it was asked for first: it may listen in one alone.
func dialLoopback(ctx context.Context, asked net.Addr, port uint16) (net.Conn, error) {
	order := []string{"127.0.0.1", "::1"}
	if a, ok := asked.(*net.TCPAddr); ok && a.IP.To4() == nil {
		order[0], order[1] = order[1], order[0]
	}
	var errs []error
	for _, host := range order {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// publish listens on the host for a port of the sandbox.
func (r *run) publish(rule policy.Publish) error {
	l, err := listenLoopback(rule.Host)
	if err != nil {
		e := &Error{Err: fmt.Errorf("%s: publish %s: %w", rule.Rule, rule.Host, err), Status: statusFailed}
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			e.Hint = "another program has that port: name another of the host's, as in " + strconv.Itoa(int(rule.Host.Port())+1) + ":" + strconv.Itoa(int(rule.Port))
		case errors.Is(err, syscall.EACCES):
			e.Hint = "ports below 1024 take root: name another of the host's, as in 8080:" + strconv.Itoa(int(rule.Port))
		}
		return e
	}
	r.proxy.Forward(proxy.Forward{
		Listeners: []net.Listener{l}, Operation: event.NetAccept, Rule: rule.Rule,
		Object: event.Object{Addr: "127.0.0.1", Port: rule.Port, Proto: "tcp"},
		Dial: func(ctx context.Context, _ net.Conn) (net.Conn, error) {
			return r.box.DialInside(ctx, rule.Port)
		},
	})
	return nil
}

// listenLoopback listens on an address that leads to this host alone, whatever
// was asked for.
func listenLoopback(at netip.AddrPort) (net.Listener, error) {
	if !at.Addr().IsLoopback() {
		return nil, errors.New("no loopback address")
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // splice(2) knows plain TCP
	return lc.Listen(context.Background(), "tcp", at.String())
}
