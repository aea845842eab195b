package sandbox

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func endsOf(client, origin string) ends {
	return ends{netip.MustParseAddrPort(client), netip.MustParseAddrPort(origin)}
}

func openerOf(pid int) opener {
	return opener{process: &event.Process{PID: pid}, at: time.Now()}
}

func TestOpenerIsGivenOnceAndToItsOwnConnection(t *testing.T) {
	o := newOpened()
	e := endsOf("198.18.0.1:4000", "198.18.0.2:443")
	o.end(o.begin(), e, openerOf(7))
	for _, other := range []ends{endsOf("198.18.0.1:4001", "198.18.0.2:443"), endsOf("198.18.0.1:4000", "198.18.0.3:443"), {}} {
		if who, ok := o.take(other.client, other.origin); ok {
			t.Errorf("%v belongs to %+v", other, who.process)
		}
	}
	if who, ok := o.take(e.client, e.origin); !ok || who.process.PID != 7 {
		t.Errorf("got %+v, %v", who, ok)
	}
	if _, ok := o.take(e.client, e.origin); ok {
		t.Error("given twice")
	}
}

func TestOpenerThatComesLateIsWaitedFor(t *testing.T) {
	o := newOpened()
	e := endsOf("198.18.0.1:4000", "198.18.0.2:443")
	call := o.begin()
	got := make(chan bool)
	go func() {
		_, ok := o.take(e.client, e.origin)
		got <- ok
	}()
	time.Sleep(10 * time.Millisecond)  // either order is right, this one is the rare one
	o.end(o.begin(), ends{}, opener{}) // one that began later, and is done before
	o.end(call, e, openerOf(7))
	if !<-got {
		t.Error("not waited for")
	}
	// One that fails does not keep who waits for ever.
	call = o.begin()
	go func() {
		_, ok := o.take(e.client, e.origin)
		got <- ok
	}()
	o.end(call, ends{}, opener{})
	if <-got {
		t.Error("a connection that failed has an opener")
	}
}

func TestOldOpenersAreForgotten(t *testing.T) {
	o := newOpened()
	for i := range 3 * maxOpened {
		o.end(o.begin(), endsOf(fmt.Sprintf("198.18.0.1:%d", 1+i), "198.18.0.2:443"), openerOf(i))
	}
	if n := len(o.fresh) + len(o.old); n > maxOpened {
		t.Errorf("%d are kept", n)
	}
	stale := openerOf(7)
	stale.at = time.Now().Add(-openedFor)
	e := endsOf("198.18.0.1:65000", "198.18.0.2:443")
	o.end(o.begin(), e, stale)
	if _, ok := o.take(e.client, e.origin); ok {
		t.Error("the same ends mean another connection by now")
	}
}

func TestNetworkAddressIsReadAsTheKernelDoes(t *testing.T) {
	v4 := []byte{unix.AF_INET, 0, 0x01, 0xbb, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	v6 := append([]byte{unix.AF_INET6, 0, 0x00, 0x50, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8::1").AsSlice()...)
	mapped := append([]byte{unix.AF_INET6, 0, 0x00, 0x50, 0, 0, 0, 0}, netip.MustParseAddr("::ffff:192.0.2.1").AsSlice()...)
	for want, b := range map[string][]byte{"192.0.2.1:443": v4, "[2001:db8::1]:80": v6, "192.0.2.1:80": mapped} {
		if got := networkAddress(b); got.String() != want {
			t.Errorf("% x is %s, want %s", b, got, want)
		}
	}
	for _, b := range [][]byte{nil, v4[:1], v4[:7], v6[:23], unixAddress("/run/x"), {0xff, 0, 0, 0, 1, 2, 3, 4}} {
		if got := networkAddress(b); got.IsValid() {
			t.Errorf("% x is %s", b, got)
		}
	}
}

func TestLocalAddressIsThatOfTheConnection(t *testing.T) {
	for _, network := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", network)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := localAddress(int(f.Fd())); got.String() != c.LocalAddr().String() {
			t.Errorf("got %s, want %s", got, c.LocalAddr())
		}
	}
	if got := localAddress(-1); got.IsValid() {
		t.Errorf("no socket has the address %s", got)
	}
}

func FuzzNetworkAddress(f *testing.F) {
	f.Add([]byte{unix.AF_INET, 0, 0, 80, 1, 2, 3, 4})
	f.Add(append([]byte{unix.AF_INET6, 0, 0, 80, 0, 0, 0, 0}, make([]byte, 20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := networkAddress(b); a.Addr().Is4In6() || a.IsValid() && a.Addr().Zone() != "" {
			t.Errorf("% x gives %s", b, a)
		}
	})
}
