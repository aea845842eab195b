package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func init() { helpers["torrent"] = torrent }

// torrent sends all the time, by every way there is, and beats its heart into
// the file that its argument names.
func torrent() {
	go func() {
		for {
			if c, err := dial("tcp", "allowed.test:2525"); err == nil {
				_, _ = io.WriteString(c, "new")
				c.Close()
			}
		}
	}()
	go func() {
		for {
			_ = tryUDP([]string{thereV4 + ":5000", "1"})
			_ = tryTCP([]string{otherV4 + ":80", someRequest})
			_ = tryProxy(connectTo("allowed.test:2525")[1:])
		}
	}()
	go func() {
		c, err := net.Dial("tcp", "allowed.test:2525")
		for err == nil {
			_, err = io.WriteString(c, strings.Repeat("x", 1000))
		}
	}()
	for {
		_ = os.WriteFile(os.Args[1], []byte(time.Now().Format(time.RFC3339Nano)), 0o644)
		time.Sleep(2 * time.Millisecond)
	}
}

// processesOf lists what runs with this home in its arguments or environment.
func processesOf(h *home) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		args, _ := os.ReadFile(f)
		environ, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "environ")) // not of everyone's, to an ordinary user
		if strings.Contains(string(args)+string(environ), h.dir) {
			pids = append(pids, filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return pids
}

// goneWithin wants all of a home's processes to end.
func goneWithin(t *testing.T, h *home, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); ; time.Sleep(5 * time.Millisecond) {
		left := processesOf(h)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s still there: %q", d, left)
		}
	}
}

func TestKillingTheSupervisorEndsThePayloadAndLetsNothingOut(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	b := h.launch("torrent", filepath.Join(h.work, "heart"))
	to := "tcp " + thereV4 + ":2525"
	for end := time.Now().Add(slow); h.read("work/heart") == "" || internet.reached(to) < 10; {
		if time.Now().After(end) {
			t.Fatal("the payload does not send")
		}
		time.Sleep(time.Millisecond)
	}
	if err := b.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.Wait()
	killed := time.Now()
	time.Sleep(soon() / 20) // what the far side's kernel already has is accepted and read
	before := fmt.Sprint(internet.all())
	packets := internet.countPackets()

	goneWithin(t, h, time.Until(killed.Add(soon())))
	time.Sleep(300 * time.Millisecond)
	if after := fmt.Sprint(internet.all()); after != before {
		t.Errorf("after the kill the far side saw more:\n%s\n%s", before, after)
	}
	if n := internet.countPackets() - packets; n != 0 {
		t.Errorf("%d packets after the kill", n)
	}
	if beat, err := time.Parse(time.RFC3339Nano, h.read("work/heart")); err == nil && beat.After(killed.Add(soon())) {
		t.Errorf("the payload lived for %s", beat.Sub(killed))
	}
	onlyArrived(t, "dns allowed.test", to)
	h.events() // the record is still one
}

// The moments of a start at which a kill could leave a payload behind that
// nobody watches.
func TestKillingTheSupervisorWhileItStartsLeavesNothing(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	for i := range 24 {
		b := h.launch("torrent", filepath.Join(h.work, "heart"))
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		_ = b.Process.Kill()
		_ = b.Wait()
	}
	goneWithin(t, h, soon())
	for what := range internet.all() {
		if what != "dns allowed.test" && !strings.HasSuffix(what, thereV4+":2525") {
			t.Errorf("arrived: %s", what)
		}
	}
	internet.reset()
	time.Sleep(300 * time.Millisecond)
	silent(t)
}
