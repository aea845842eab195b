package plan

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it):\n%s", path, got)
	}
}

func TestNFTText(t *testing.T) {
	golden(t, "network.nft", DefaultNetwork().NFTText())
}

func TestNFTTextWithoutIPv6HasNoIPv6Listener(t *testing.T) {
	n := DefaultNetwork()
	n.Proxy6 = netip.AddrPort{}
	text := n.NFTText()
	if strings.Contains(text, "tproxy ip6") || !strings.Contains(text, "tproxy ip to 198.18.0.1:923 accept") {
		t.Errorf("rules without IPv6:\n%s", text)
	}
}

func TestProxyPortIsPrivilegedAndNotBlockedByBrowsers(t *testing.T) {
	// https://fetch.spec.whatwg.org/#port-blocking, those below 1024.
	bad := map[uint16]bool{}
	for _, p := range []uint16{0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
		101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
		512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995} {
		bad[p] = true
	}
	n := DefaultNetwork()
	for _, a := range []netip.AddrPort{n.Proxy4, n.Proxy6} {
		if a.Port() >= 1024 || bad[a.Port()] {
			t.Errorf("port %d", a.Port())
		}
	}
	if !netip.MustParsePrefix("fd00::/8").Contains(n.Proxy6.Addr()) || !netip.MustParsePrefix("198.18.0.0/15").Contains(n.Proxy4.Addr()) {
		t.Errorf("addresses %s, %s", n.Proxy4, n.Proxy6)
	}
	if n.Mark == 0 {
		t.Error("mark 0 is every packet's")
	}
}
