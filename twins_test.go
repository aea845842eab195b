package sallyport

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func connectDenial(execID string, n uint64) event.Event {
	return event.Event{Operation: event.UnixConnect, Errno: "EACCES", Count: n, Layer: event.LayerTrace,
		Process: &event.Process{ExecID: execID}}
}

func TestAConnectThatTheSupervisorRefusedIsOneEvent(t *testing.T) {
	tw := newTwins()
	for range 3 {
		tw.supervisor(connectDenial("7:1", 1))
	}
	if n := tw.call(connectDenial("8:1", 1), "connect"); n != 1 {
		t.Errorf("another process's: %d", n)
	}
	if n := tw.call(connectDenial("7:1", 1), "connect"); n != 0 {
		t.Errorf("the first: %d", n)
	}
	if n := tw.call(connectDenial("7:1", 5), "connect"); n != 3 { // two more are told, three are file permissions
		t.Errorf("the rest: %d", n)
	}
	missing := connectDenial("9:1", 1)
	missing.Errno = "ENOENT" // what the kernel's programs take for no refusal
	tw.supervisor(missing)
	if n := tw.call(connectDenial("9:1", 1), "connect"); n != 1 {
		t.Errorf("after one that has no twin: %d", n)
	}
}

func ping(addr string, layer event.Layer, n uint64) event.Event {
	return event.Event{Operation: event.NetICMP, Object: event.Object{Addr: addr, Proto: "icmp"}, Layer: layer, Count: n}
}

func TestAPacketIsOneEventWithTheCallThatSentIt(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	tw := newTwins()
	if out := tw.packet(ping("192.0.2.1", event.LayerNFT, 1), now); out != nil {
		t.Errorf("told at once: %v", out)
	}
	if n := tw.call(ping("192.0.2.1", event.LayerTrace, 1), "sendto"); n != 1 {
		t.Errorf("the call: %d", n)
	}
	tw.packet(ping("192.0.2.1", event.LayerNFT, 1), now) // of nobody's call
	tw.packet(ping("192.0.2.2", event.LayerNFT, 1), now.Add(time.Millisecond))
	if out := tw.due(now.Add(packetHold)); len(out) != 1 || out[0].Object.Addr != "192.0.2.1" {
		t.Errorf("due: %+v", out)
	}
	if out := tw.all(); len(out) != 1 || out[0].Object.Addr != "192.0.2.2" {
		t.Errorf("the rest: %+v", out)
	}
}

func TestOtherPacketsAreNotHeld(t *testing.T) {
	e := event.Event{Operation: event.NetUDP, Layer: event.LayerNFT, Count: 1}
	if out := newTwins().packet(e, time.Now()); len(out) != 1 {
		t.Errorf("%v", out)
	}
}

func TestHeldPacketsAreBounded(t *testing.T) {
	tw := newTwins()
	told := 0
	for range 3 * twinsMax {
		told += len(tw.packet(ping("192.0.2.1", event.LayerNFT, 1), time.Now()))
	}
	if told+len(tw.all()) != 3*twinsMax {
		t.Error("some are missing")
	}
	if len(tw.held) > twinsMax {
		t.Errorf("%d are held", len(tw.held))
	}
}
