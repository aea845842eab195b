package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/internal/event"
)

// entries are the ways to say a host, each giving whether it was refused.
var entries = map[string]func(r *rig, host string, port uint16) bool{
	"HTTP": func(r *rig, host string, port uint16) bool {
		resp, _ := ask(r.t, dialTo(r.t, r.explicit), fmt.Sprintf("GET http://%s/ HTTP/1.0\r\n\r\n", joined(host, port)))
		return resp.StatusCode == 403 || resp.StatusCode == 400
	},
	"CONNECT": func(r *rig, host string, port uint16) bool {
		resp, _ := ask(r.t, dialTo(r.t, r.explicit), fmt.Sprintf("CONNECT %s HTTP/1.0\r\n\r\n", joined(host, port)))
		return resp.StatusCode == 403 || resp.StatusCode == 400
	},
	"SOCKS5": func(r *rig, host string, port uint16) bool {
		_, code := r.socksTo(host, port)
		return code == socksNotAllowed
	},
	"server name": func(r *rig, host string, port uint16) bool {
		if len(host) > 0 && host[len(host)-1] == '.' || strings.Contains(host, "%") || len(host) > 200 {
			host = "evil.test" // crypto/tls would not send it
		}
		r.outside("outer.test", 443, serveTCP(r.t, echo))
		c := dialTo(r.t, r.captureName("outer.test", 443))
		c.Write(clientHello(r.t, host, nil))
		got, _ := io.ReadAll(c)
		return bytes.Equal(got, alertAccessDenied)
	},
	"DNS": func(r *rig, host string, port uint16) bool {
		b := query(r.t, strings.TrimSuffix(host, ".")+".", dnsmessage.TypeA, dnsmessage.ClassINET)
		out, err := r.p.answerDNS(b, dnsClient)
		var m dnsmessage.Message
		return err == nil && m.Unpack(out) == nil && m.RCode == dnsmessage.RCodeNameError
	},
}

func joined(host string, port uint16) string {
	if strings.Count(host, ":") > 1 {
		return fmt.Sprintf("[%s]:%d", host, port)
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// TestHostsThatMustNotPass: each is refused and recorded through each entry
// that can carry it, and nothing is resolved or dialled for it.
func TestHostsThatMustNotPass(t *testing.T) {
	all := "HTTP CONNECT SOCKS5 server name DNS"
	cases := []struct {
		host string
		not  string // entries that cannot carry it
	}{
		{"evil\x00.ok.test", ""},
		{"ok.test\x00.evil.test", ""},
		{"evil.test", ""},
		{"notok.test", ""},
		{"ok.test.evil.test", ""},
		{"sub.ok.test", ""},
		{"ok.test@evil.test", ""},
		{"127.0.0.1", "server name"}, // never sent
		{"127.1", ""},
		{"0x7f.1", ""},
		{"0x7f000001", ""},
		{"2130706433", ""},
		{"0177.0.0.1", ""},
		{"0", ""},
		{"1.2.3.4.5", ""},
		{"0.0.0.0", "server name"},
		{"169.254.169.254", "server name"},
		{"[::1]", "server name DNS SOCKS5"},
		{"::1", "server name DNS"},
		{"::ffff:127.0.0.1", "server name DNS"},
		{"::127.0.0.1", "server name DNS"},
		{"64:ff9b::7f00:1", "server name DNS"},
		{"fe80::1%lo", "server name DNS"},
		{"fd00:ec2::254", "server name DNS"},
		{"ok\u3002test.evil.test", "server name"},
		{"xn--ok-", ""},
		{"xn--80ak6aa92e.com", ""}, // аррӏе.com
		{"ok..test", "DNS"},
		{".ok.test", "DNS"},
		{"*.ok.test", ""},
		{"ok.test..", "DNS"},
		{"ok .test", "HTTP CONNECT"},
		{"ok.test\t", "HTTP CONNECT"},
		{"ok%2etest", ""},
		{"-", ""},
		{strings.Repeat("a", 64) + ".ok.test", "DNS"},
		{strings.Repeat("a.", 120) + "ok.test", "DNS"},
	}
	for _, c := range cases {
		for name, refused := range entries {
			if !strings.Contains(all, name) || strings.Contains(c.not, name) {
				continue
			}
			t.Run(fmt.Sprintf("%.40q/%s", c.host, name), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, allowing("ok.test", "outer.test"))
				if !refused(r, c.host, 443) {
					t.Error("was not refused")
				}
				d := r.denials()
				if len(d) != 1 || d[0].Rule == "" {
					t.Errorf("events %s", show(d))
				}
				resolved, dialled := r.wentOutside()
				for _, x := range append(resolved, dialled...) {
					if x != "outer.test" && x != "93.184.216.1:443" {
						t.Errorf("went outside: %s", x)
					}
				}
			})
		}
	}
}

// TestOtherSpellingsAreTheOneName: what passes is looked up in the one form.
func TestOtherSpellingsAreTheOneName(t *testing.T) {
	for _, host := range []string{"OK.test", "ok.test.", "ok\u3002test", "o\u00adk.test", "\uff4f\uff4b.test"} {
		for _, name := range []string{"HTTP", "CONNECT", "SOCKS5", "DNS"} {
			if name == "HTTP" || name == "CONNECT" {
				if host != "OK.test" && host != "ok.test." {
					continue // a request target is ASCII
				}
			}
			r := newRig(t, allowing("ok.test"))
			entries[name](r, host, 7000) // nobody listens
			if d := r.denials(); len(d) != 0 {
				t.Errorf("%q through %s: %s", host, name, show(d))
			}
			if resolved, _ := r.wentOutside(); name != "DNS" && (len(resolved) != 1 || resolved[0] != "ok.test") {
				t.Errorf("%q through %s: resolved %q", host, name, resolved)
			}
		}
	}
	r := newRig(t, allowing("ok.test"))
	for _, bad := range []string{"ok\u3002test", "o\u00adk.test"} {
		if !entries["HTTP"](r, bad, 80) || !entries["CONNECT"](r, bad, 80) {
			t.Errorf("%q in a request target", bad)
		}
	}
}

// doorsTo tries to connect and gives whether it was refused.
var doorsTo = map[string]func(r *rig, name string, port uint16) bool{
	"transparent": func(r *rig, name string, port uint16) bool {
		return resets(r.t, r.captureName(name, port))
	},
	"CONNECT": entries["CONNECT"],
	"SOCKS5":  entries["SOCKS5"],
	"HTTP":    entries["HTTP"],
}

// TestAddressesThatMustNotBeDialled: one bad address among good ones refuses
// all, and the answer of one look-up is what is checked and dialled.
func TestAddressesThatMustNotBeDialled(t *testing.T) {
	for name, addrs := range map[string][]string{
		"loopback":                   {"127.0.0.1"},
		"private among public":       {"93.184.216.1", "10.0.0.1", "93.184.216.2"},
		"private last":               {"93.184.216.1", "93.184.216.2", "192.168.1.1"},
		"metadata":                   {"169.254.169.254"},
		"mapped loopback":            {"::ffff:127.0.0.1"},
		"NAT64 of loopback":          {"64:ff9b::7f00:1"},
		"unspecified":                {"0.0.0.0"},
		"with a zone":                {"fe80::1%lo"},
		"the fake range":             {"198.18.0.2"},
		"the proxy":                  {"198.18.0.1"},
		"multicast":                  {"224.0.0.1"},
		"unique local, public first": {"2606:2800:220:1::1", "fd00::1"},
	} {
		for door, refused := range doorsTo {
			t.Run(name+"/"+door, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, allowing("*.ok.test"))
				r.resolves("evil.ok.test", addrs...)
				if !refused(r, "evil.ok.test", 7000) {
					t.Error("was not refused")
				}
				e := r.wantDenial(event.AddressDenied)
				if e.Object.Host != "evil.ok.test" || e.Object.Addr == "" {
					t.Errorf("event %+v", e)
				}
				resolved, dialled := r.wentOutside()
				if len(resolved) != 1 || len(dialled) != 0 {
					t.Errorf("resolved %v, dialled %v", resolved, dialled)
				}
			})
		}
	}
}

// TestProxyIsNeverDialled, not even where a rule names its address: one
// connection would become many.
func TestProxyIsNeverDialled(t *testing.T) {
	const self6 = "fd5a:11ce::1"
	for _, addr := range []string{"198.18.0.1", "198.18.0.2", "198.19.0.9", self6} {
		for door, refused := range doorsTo {
			t.Run(addr+"/"+door, func(t *testing.T) {
				entry := addr
				if addr == self6 {
					entry = "[" + addr + "]"
				}
				r := newRig(t, allowing("ok.test", entry), func(c *Config) {
					c.Self = append(c.Self, netip.MustParseAddrPort("[fd5a:11ce::1]:9040"))
				})
				r.resolves("ok.test", addr)
				if !refused(r, "ok.test", 7000) {
					t.Error("was not refused")
				}
				if e := r.wantDenial(event.AddressDenied); e.Rule != "builtin:proxy-address" {
					t.Errorf("event %+v", e)
				}
				if _, dialled := r.wentOutside(); len(dialled) != 0 {
					t.Errorf("dialled %v", dialled)
				}
			})
		}
	}
}

func TestAddressDialledIsTheOneChecked(t *testing.T) {
	for door, refused := range doorsTo {
		t.Run(door, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			r.outside("ok.test", 7000, serveTCP(t, echo))
			c := dialTo(t, r.captureName("ok.test", 7000))
			io.WriteString(c, "x")
			io.ReadFull(c, make([]byte, 1))
			r.resolves("ok.test", "127.0.0.1") // the name is rebound
			if !refused(r, "ok.test", 7000) {
				t.Error("was not refused")
			}
			r.wantDenial(event.AddressDenied)
			resolved, dialled := r.wentOutside()
			if len(resolved) != 2 || len(dialled) != 1 || dialled[0] != "93.184.216.1:7000" {
				t.Errorf("resolved %v, dialled %v", resolved, dialled)
			}
		})
	}
}

func TestPortsThatMustNotPass(t *testing.T) {
	for _, c := range []struct {
		policy string
		port   uint16
	}{
		{allowing("ok.test:443"), 22},
		{allowing("ok.test:443"), 853}, // DNS over TLS
		{allowing("ok.test"), 25},
		{"network: {allowedDomains: [ok.test], deniedDomains: ['*:7000']}\n", 7000},
	} {
		for door, refused := range doorsTo {
			t.Run(fmt.Sprintf("%d/%s", c.port, door), func(t *testing.T) {
				r := newRig(t, c.policy)
				if door == "transparent" && c.port == 22 {
					got, _ := io.ReadAll(dialTo(t, r.captureName("ok.test", 22)))
					if !strings.HasPrefix(string(got), "SSH-2.0-sallyport\r\n") {
						t.Errorf("answer %q", got)
					}
				} else if !refused(r, "ok.test", c.port) {
					t.Error("was not refused")
				}
				if d := r.denials(); len(d) != 1 || d[0].Reason != event.PortDenied && d[0].Reason != event.RuleDenied {
					t.Errorf("events %s", show(d))
				}
				if resolved, _ := r.wentOutside(); len(resolved) != 0 {
					t.Errorf("resolved %v", resolved)
				}
			})
		}
	}
}

// TestDNSOverHTTPSIsANameLikeAnother: it gets out only where the policy names
// the server.
func TestDNSOverHTTPSIsANameLikeAnother(t *testing.T) {
	for _, name := range []string{"dns.google", "cloudflare-dns.com"} {
		r := newRig(t, allowing("ok.test"))
		if err := tlsOver(dialTo(t, r.captureName(name, 443)), name).Handshake(); err == nil {
			t.Errorf("%s was reached", name)
		}
		r.wantDenial(event.NotAllowed)
	}
	for _, addr := range []string{"8.8.8.8:443", "1.1.1.1:853", "8.8.8.8:53"} {
		r := newRig(t, allowing("ok.test"))
		if err := tlsOver(dialTo(t, r.capture(addr)), "dns.google").Handshake(); err == nil {
			t.Errorf("%s was reached", addr)
		}
		r.wantDenial(event.AddressLiteral)
	}
}

func TestHostileNamesCannotDirtyATerminal(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	resp, body := ask(t, dialTo(t, r.explicit), "GET http://evil\u202e\x9b.test/ HTTP/1.0\r\n\r\n")
	if resp.StatusCode != 400 {
		t.Errorf("answer %d", resp.StatusCode)
	}
	c, _ := r.socksTo("evil\u202e\x1b[31m.test", 80)
	c.Close()
	for _, b := range []byte(body) {
		if b < ' ' && b != '\n' || b > 0x7e {
			t.Fatalf("byte %#x in %q", b, body)
		}
	}
	d := r.denials()
	if len(d) != 2 || !strings.Contains(string(d[1].Object.Host), "\x1b[31m") {
		t.Errorf("events %s", show(d))
	}
	if s := explain(target{raw: "a\x1b[2J\u202eb"}, builtin("x", event.NameInvalid), "\x07detail\nrule: forged"); strings.ContainsAny(s, "\x1b\x07\u202e") ||
		strings.Count(s, "\nrule: ") != 1 {
		t.Errorf("explained as %q", s)
	}
}

func TestSSHIsToldWhy(t *testing.T) {
	for n := range 40 { // every padding
		b := sshDisconnect(strings.Repeat("x", n))
		const banner = "SSH-2.0-sallyport\r\n"
		if !bytes.HasPrefix(b, []byte(banner)) {
			t.Fatal("no identification")
		}
		text, err := parseDisconnect(b[len(banner):])
		if err != nil || text != strings.Repeat("x", n) {
			t.Fatalf("%d: %q, %v", n, text, err)
		}
	}
}

// parseDisconnect reads a packet as RFC 4253 has it.
func parseDisconnect(b []byte) (string, error) {
	if len(b) < 16 || len(b)%8 != 0 {
		return "", errors.New("not whole blocks")
	}
	size, pad := int(b[2])<<8|int(b[3]), int(b[4])
	if size != len(b)-4 || pad < 4 {
		return "", fmt.Errorf("length %d, padding %d of %d", size, pad, len(b))
	}
	p := b[5 : len(b)-pad]
	n := int(p[7])<<8 | int(p[8])
	if p[0] != 1 || len(p) != 9+n+4 {
		return "", errors.New("not a disconnect message")
	}
	return string(p[9 : 9+n]), nil
}
