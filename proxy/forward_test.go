package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// forwarded opens a port to an echo server; it gives the port's address.
func forwarded(t *testing.T, r *rig, dial func(context.Context, net.Conn) (net.Conn, error)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.p.Forward(Forward{Listeners: []net.Listener{l}, Dial: dial, Operation: event.NetAccept, Rule: policy.Rule{File: "p.yaml", Line: 3},
		Object: event.Object{Addr: "127.0.0.1", Port: 80, Proto: "tcp"}})
	return l.Addr().String()
}

func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func TestAForwardedPortLeadsToOnePlaceAndIsRecorded(t *testing.T) {
	r := newRig(t, "{}")
	to := echoServer(t)
	at := forwarded(t, r, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to)
	})
	for range 3 {
		c := dialTo(t, at)
		io.WriteString(c, "CONNECT 9.9.9.9:443 HTTP/1.1\r\n\r\n") // bytes, and no request
		c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "CONNECT 9.9.9.9:443 HTTP/1.1\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
	r.p.Close()
	if len(r.events) != 1 {
		t.Fatalf("recorded: %+v", r.events)
	}
	e := r.events[0]
	if e.Operation != event.NetAccept || e.Count != 3 || e.Rule != "p.yaml:3" || e.Verdict != event.Allow || e.Object.Port != 80 {
		t.Errorf("recorded: %+v", e)
	}
	if _, err := net.Dial("tcp", at); err == nil {
		t.Error("the port is open after Close")
	}
	if len(r.dialled) > 0 {
		t.Errorf("dialled: %q", r.dialled)
	}
}

func TestAForwardedPortWithNobodyBehindResets(t *testing.T) {
	r := newRig(t, "{}")
	at := forwarded(t, r, func(context.Context, net.Conn) (net.Conn, error) { return nil, errors.New("nobody") })
	if !resets(t, at) {
		t.Error("the connection is not reset")
	}
	r.p.Close()
	if len(r.events) != 1 || r.events[0].Reason != event.Unreachable || r.events[0].Detail != "nobody" {
		t.Errorf("recorded: %+v", r.events)
	}
}

func TestCloseEndsForwardedConnections(t *testing.T) {
	r := newRig(t, "{}")
	to := echoServer(t)
	at := forwarded(t, r, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to)
	})
	c := dialTo(t, at)
	io.WriteString(c, "x")
	io.ReadFull(c, make([]byte, 1))
	hangs := forwarded(t, r, func(ctx context.Context, _ net.Conn) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() })
	dialTo(t, hangs)
	closed := make(chan struct{})
	go func() { r.p.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for a connection")
	}
}
