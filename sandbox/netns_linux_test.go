package sandbox

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

func TestEveryTCPConnectionReachesTheProxyWithItsDestination(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		n := plan.DefaultNetwork()
		to := []string{
			"8.8.8.8:443", "1.2.3.4:1", "198.18.0.9:65535", "10.0.0.1:25", "169.254.169.254:80",
			"240.1.2.3:22", "[2001:db8::1]:443", "[fd00::7]:22", "[2001:db8::2]:923",
			n.Proxy4.String(), n.Proxy6.String(), "192.0.2.1:53", "[2001:db8::3]:53",
		}
		r := startNet(t, "tcp", to...)
		r.serveTCP(r.sockets.TCP4, r.sockets.TCP6, r.sockets.DNSTCP)
		out, denials := r.wait()
		for _, want := range to {
			for _, how := range []string{"tcp", "mptcp"} {
				from := n.Proxy4.Addr().String() + ":"
				if strings.HasPrefix(want, "[") {
					from = "[" + n.Proxy6.Addr().String() + "]:"
				}
				line := fmt.Sprintf("%s %s: %s from %s", how, want, want, from)
				if !strings.Contains(out, line) {
					t.Errorf("no line %q", line)
				}
			}
		}
		if !strings.Contains(out, "mapped: 9.9.9.9:25 from "+n.Proxy4.Addr().String()) {
			t.Error("an IPv4-mapped destination did not arrive as IPv4")
		}
		if len(denials) != 0 || t.Failed() {
			t.Errorf("denials %v, output\n%s", denials, out)
		}
	})
}

func TestDNSIsAnsweredFromTheAddressThatWasAsked(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		servers := []string{"8.8.8.8:53", "127.0.0.53:53", "198.18.0.1:53", "[2001:db8::1]:53", "[::1]:53"}
		r := startNet(t, "dns", servers...)
		r.serveDNS()
		out, denials := r.wait()
		for _, s := range servers {
			if !strings.Contains(out, s+": QUESTION\n") || !strings.Contains(out, s+" unusual source: QUESTION\n") {
				t.Errorf("no answer from %s\n%s", s, out)
			}
		}
		if len(denials) != 0 {
			t.Errorf("denials %v", denials)
		}
	})
}

func TestEveryRefusedUDPPacketIsRecordedOnce(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		for _, to := range []string{"203.0.113.5:443", "[2001:db8::5]:443"} {
			start := time.Now()
			_, denials := startNet(t, "udp-burst", to).wait()
			if took := time.Since(start); took > time.Minute { // refused, not timed out
				t.Errorf("%s: took %s", to, took)
			}
			if len(denials) != 1000 {
				t.Errorf("%s: %d of 1000 recorded", to, len(denials))
			}
			dst := netip.MustParseAddrPort(to)
			for _, d := range denials {
				if d.Rule != plan.RuleTCPAndDNSOnly || d.Dst != dst.Addr() || d.DstPort != dst.Port() || d.Proto != protoUDP || d.SrcPort == 0 {
					t.Fatalf("%s: recorded %+v", to, d)
				}
			}
		}
	})
}

func TestLostRecordsAreCounted(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		sent := 20_001 // the buffer below holds a few
		if testing.Short() {
			sent = 2_001
		}
		r := startNet(t, "udp-flood", "203.0.113.5:443", fmt.Sprint(sent))
		raw, err := r.sockets.NFLOG.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10) })
		if err != nil {
			t.Fatal(err)
		}
		r.stdin.Close() // the signal to begin
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("payload: %v\n%s", err, &r.out)
		}
		if err := stopNFLOG(r.sockets.NFLOG, plan.DefaultNetwork().NFLOGGroup); err != nil {
			t.Fatal(err)
		}
		if err := <-r.read; err != nil {
			t.Error(err)
		}
		if r.lost == 0 || uint64(len(r.denials))+r.lost != uint64(sent) {
			t.Errorf("%d recorded and %d lost of %d", len(r.denials), r.lost, sent)
		}
	})
}

func TestClosingTheRecordBeforeItsEndIsAnError(t *testing.T) {
	r := startNet(t, "loopback")
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("payload: %v\n%s", err, &r.out)
	}
	r.sockets.NFLOG.Close()
	select {
	case err := <-r.read:
		if err == nil {
			t.Error("ended as if nothing could be missing")
		}
	case <-time.After(5 * time.Second):
		t.Error("still reading a closed socket")
	}
}

func TestOddPacketsAreRefusedAndRecorded(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		for _, test := range []struct {
			payload string
			want    string // rule, destination, protocol, port
		}{
			{"ping4", "tcp-and-dns-only 8.8.8.8 1 0"},
			{"ping6", "tcp-and-dns-only 2001:db8::1 58 0"},
			{"dns-to-a-group4", "tcp-and-dns-only 224.0.0.251 17 53"},
			{"dns-to-a-group6", "tcp-and-dns-only ff02::fb 17 53"},
			{"dns-to-all-hosts", "tcp-and-dns-only 255.255.255.255 17 53"},
			{"udplite", "tcp-and-dns-only 192.0.2.9 136 53"},
			{"udplite6", "tcp-and-dns-only 2001:db8::9 136 53"},
			{"fragments6", "tcp-and-dns-only 2001:db8::9 17 443"},
			{"tcp-options", "no-ip-options 8.8.8.8 6 80"},
			{"dns-options", "no-ip-options 127.0.0.1 17 53"},
			{"dns-routing-header", "no-ip-options 2001:db8::a 17 53"},
			{"mapped-udp", "tcp-and-dns-only 192.0.2.3 17 443"},
			{"own-address", "tcp-and-dns-only 198.18.0.1 17 8080"},
		} {
			t.Run(test.payload, func(t *testing.T) {
				out, denials := startNet(t, test.payload).wait()
				if !strings.Contains(out, "refused\n") {
					t.Errorf("not refused: %s", out)
				}
				// A SYN comes again, since TCP takes no ICMP error while
				// connect(2) is still sending the first.
				if len(denials) != 1 && test.payload != "tcp-options" || len(denials) == 0 {
					t.Fatalf("%d records: %+v", len(denials), denials)
				}
				d := denials[0]
				if got := fmt.Sprintf("%s %s %d %d", d.Rule, d.Dst, d.Proto, d.DstPort); got != test.want {
					t.Errorf("recorded %q, want %q", got, test.want)
				}
			})
		}
	})
}

func TestLoopbackWorksInside(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		if _, denials := startNet(t, "loopback").wait(); len(denials) != 0 {
			t.Errorf("denials %v", denials)
		}
	})
}

func TestPayloadHasNoPowerOverItsNetwork(t *testing.T) {
	asNobody(t, func(t *testing.T) {
		out, _ := startNet(t, "powerless").wait()
		if strings.Contains(out, "ALLOWED") || !strings.Contains(out, "all tried\n") {
			t.Errorf("payload's attempts:\n%s", out)
		}
	})
}

func TestPayloadCannotPlayTheOutsideWhenTheProxyIsGone(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		r := startNet(t, "impostor", "192.0.2.1:8080")
		r.sockets.TCP4.Close()
		r.stdin.Close() // the signal to begin
		out, denials := r.wait()
		if !strings.Contains(out, "no connection\n") || len(denials) == 0 {
			t.Fatalf("%d records, output %s", len(denials), out)
		}
		if e := denials[0].event(time.Now()); e.Rule != "builtin:proxy-only" || e.Object.Addr != "192.0.2.1" {
			t.Errorf("event %+v", e)
		}
	})
}

// The readable text and the rules in Go are the same, as the kernel lists them.
func TestRulesInGoAndAsTextAreTheSame(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft(8): ", err)
	}
	v4 := plan.DefaultNetwork()
	v4.Proxy6 = netip.AddrPort{}
	for name, n := range map[string]plan.Network{"v4 and v6": plan.DefaultNetwork(), "v4": v4} {
		args := []string{n.Proxy4.String(), n.Proxy6.String()}
		byGo, byText := runInNewNet(t, "nft-go", args), runInNewNet(t, "nft-text", args)
		if !bytes.Contains(byGo, []byte("tcp-and-dns-only")) || !bytes.Equal(byGo, byText) {
			t.Errorf("%s: rules in Go:\n%s\nrules from the text:\n%s", name, byGo, byText)
		}
	}
}

func TestNetworkIsBuiltWithoutIPv6AndWhereItIsOff(t *testing.T) {
	asEachUser(t, func(t *testing.T) {
		for _, helper := range []string{"setup-v4", "setup-off"} {
			if out, err := inNewNet(helper).CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", helper, err, out)
			}
		}
	})
}

func runInNewNet(t *testing.T, helper string, args []string) []byte {
	t.Helper()
	cmd := inNewNet(helper, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(helper, err)
	}
	return out
}

func BenchmarkSetupNetwork(b *testing.B) {
	var total time.Duration
	for b.Loop() {
		out, err := inNewNet("setup-only").CombinedOutput()
		took, parseErr := time.ParseDuration(string(out))
		if err != nil || parseErr != nil {
			b.Fatalf("%v %v %s", err, parseErr, out)
		}
		total += took
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs-inside/op")
}
