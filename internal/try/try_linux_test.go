package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestOrdinaryUserIsNeverRoot(t *testing.T) {
	for name, test := range map[string]struct {
		uid, gid string
		want     int
	}{
		"who called sudo":    {"1000", "1000", 1000},
		"nobody called sudo": {"", "", 65534},
		"root called sudo":   {"0", "0", 65534},
		"not numbers":        {"alice", "users", 65534},
		"a user without gid": {"1000", "", 65534},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"SUDO_UID": test.uid, "SUDO_GID": test.gid}
			if uid, gid := ordinaryUser(func(k string) string { return env[k] }); uid != test.want || gid != test.want {
				t.Errorf("got %d:%d, want %d", uid, gid, test.want)
			}
		})
	}
}

func TestABinaryInAClosedDirectoryIsCopied(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "closed")
	if err := os.WriteFile(bin, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &show{dir: t.TempDir(), uid: os.Getuid() + 1}
	got, err := s.reachable(bin)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(got); got == bin || err != nil || string(b) != "binary" {
		t.Errorf("another user gets %s: %q, %v", got, b, err)
	}
	s.uid = os.Getuid()
	if got, err := s.reachable(bin); err != nil || got != bin {
		t.Errorf("its owner gets %s, %v, want %s", got, err, bin)
	}
}

func TestDNSKnowsTheNamesAndNoOther(t *testing.T) {
	n := &internet{hits: map[string]int{}}
	for name, want := range map[string]dnsmessage.RCode{"api.test.": dnsmessage.RCodeSuccess, "other.test.": dnsmessage.RCodeNameError} {
		q := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var a dnsmessage.Message
		if err := a.Unpack(n.dns(packed)); err != nil {
			t.Fatal(err)
		}
		if a.RCode != want || (want == dnsmessage.RCodeSuccess) != (len(a.Answers) == 1) {
			t.Errorf("%s: %v with %d answers, want %v", name, a.RCode, len(a.Answers), want)
		}
	}
	if n.saw("dns other.test") != 1 {
		t.Error("a question was not counted")
	}
	if n.dns([]byte("junk")) != nil {
		t.Error("junk was answered")
	}
}

func TestEveryAddressLooksPublic(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr(literal)}
	for _, a := range names {
		addrs = append(addrs, netip.AddrFrom4(a))
	}
	for _, a := range addrs {
		if !a.IsGlobalUnicast() || a.IsPrivate() {
			t.Errorf("%s would be refused whatever the rules say", a)
		}
	}
}
