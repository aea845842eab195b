package proxy

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestConnectTunnelCarriesBytesSentEarly(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	c := dialTo(t, r.explicit)
	io.WriteString(c, "CONNECT ok.test:7000 HTTP/1.1\r\nHost: ok.test:7000\r\n\r\nearly")
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if want := "HTTP/1.1 200 Connection established\r\n\r\nearly"; err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestConnectToPort80IsHeldToTheHost(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 80, webServer(t, false, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Host) }))
	c, _, _ := r.connectTo("ok.test:80")
	if _, body := ask(t, c, "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"); body != "ok.test" {
		t.Errorf("body %q", body)
	}
	if resp, _ := ask(t, c, "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"); resp.StatusCode != 403 {
		t.Errorf("answer %v", resp)
	}
	r.wantDenial(event.NameMismatch)
}

func TestConnectRefusals(t *testing.T) {
	for _, c := range []struct {
		name, request string
		status        int
		reason        event.Reason
	}{
		{"no port", "CONNECT ok.test HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, event.NameInvalid},
		{"port 0", "CONNECT ok.test:0 HTTP/1.1\r\n\r\nHost: ok.test\r\n\r\n", 400, event.NameInvalid},
		{"a URL", "CONNECT http://ok.test:443/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, event.NameInvalid},
		{"another Host", "CONNECT ok.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", 400, event.NameMismatch},
		{"another port in Host", "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:22\r\n\r\n", 400, event.NameMismatch},
		{"two Hosts", "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n", 400, event.RequestInvalid},
		{"a bad Host", "CONNECT ok.test:443 HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n", 400, event.NameInvalid},
		{"a body", "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\n\r\nhello", 400, event.RequestInvalid},
		{"the proxy itself", "CONNECT 198.18.0.1:9040 HTTP/1.1\r\nHost: 198.18.0.1:9040\r\n\r\n", 403, event.UnknownDest},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			resp, body := ask(t, dialTo(t, r.explicit), c.request)
			if resp.StatusCode != c.status || resp.Header.Get("X-Sallyport-Reason") != c.reason.String() {
				t.Errorf("answer %d %s", resp.StatusCode, body)
			}
			r.wantDenial(c.reason)
			if resolved, dialled := r.wentOutside(); len(resolved)+len(dialled) != 0 {
				t.Errorf("went outside: %v %v", resolved, dialled)
			}
		})
	}
}

func TestUnreachableThroughEachDoor(t *testing.T) {
	r := newRig(t, allowing("ok.test", "gone.test"))
	r.resolves("ok.test", "93.184.216.9", "93.184.216.10")
	if _, resp, body := r.connectTo("ok.test:7000"); resp.StatusCode != 502 || !strings.Contains(body, "refused") {
		t.Errorf("CONNECT: %d %s", resp.StatusCode, body)
	}
	if _, code := r.socksTo("ok.test", 7000); code != socksRefused {
		t.Errorf("SOCKS5: reply %d", code)
	}
	if _, code := r.socksTo("gone.test", 7000); code != socksHostUnreachable {
		t.Errorf("SOCKS5 to a name that does not resolve: reply %d", code)
	}
	if d := r.denials(); len(d) != 0 {
		t.Errorf("denials %s", show(d))
	}
}

func TestSOCKS5Refusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		send   string
		answer string // of the second step; after 05 00 where the method was taken
		reason event.Reason
	}{
		{"SOCKS4", "\x04\x01\x00\x50\x5d\xb8\xd8\x22x\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", event.RequestInvalid},
		{"authentication only", "\x05\x01\x02", "\x05\xff", event.RequestInvalid},
		{"BIND", "\x05\x01\x00\x05\x02\x00\x03\x07ok.test\x00\x50", "\x05\x00\x05\x07", event.ProtocolDenied},
		{"UDP ASSOCIATE", "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x00\x05\x07", event.ProtocolDenied},
		{"unknown address type", "\x05\x01\x00\x05\x01\x00\x02", "\x05\x00\x05\x08", event.RequestInvalid},
		{"wrong version in the request", "\x05\x01\x00\x04\x01\x00\x03\x07ok.test\x00\x50", "\x05\x00\x05\x01", event.RequestInvalid},
		{"reserved byte", "\x05\x01\x00\x05\x01\x01\x03\x07ok.test\x00\x50", "\x05\x00\x05\x01", event.RequestInvalid},
		{"port 0", "\x05\x01\x00\x05\x01\x00\x03\x07ok.test\x00\x00", "\x05\x00\x05\x02", event.RequestInvalid},
		{"empty name", "\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", "\x05\x00\x05\x02", event.NameInvalid},
		{"NUL in the name", "\x05\x01\x00\x05\x01\x00\x03\x0cevil\x00ok.test\x00\x50", "\x05\x00\x05\x02", event.NameInvalid},
		{"denied name", "\x05\x01\x00\x05\x01\x00\x03\x09evil.test\x00\x50", "\x05\x00\x05\x02", event.NotAllowed},
		{"address", "\x05\x01\x00\x05\x01\x00\x01\x5d\xb8\xd8\x22\x00\x50", "\x05\x00\x05\x02", event.AddressLiteral},
		{"mapped address", "\x05\x01\x00\x05\x01\x00\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x02", event.AddressDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			conn := dialTo(t, r.explicit)
			io.WriteString(conn, c.send)
			got, _ := io.ReadAll(conn)
			if !strings.HasPrefix(string(got), c.answer) {
				t.Errorf("answer %x, want %x", got, c.answer)
			}
			r.wantDenial(c.reason)
			if resolved, dialled := r.wentOutside(); len(resolved)+len(dialled) != 0 {
				t.Errorf("went outside: %v %v", resolved, dialled)
			}
		})
	}
}

func TestSOCKS5ReachesNamesAndAllowedAddresses(t *testing.T) {
	r := newRig(t, allowing("ok.test", "93.184.216.34", "[2606:2800:220:1::1]"))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	r.servers["93.184.216.34:7000"] = r.servers["93.184.216.1:7000"]
	r.servers["[2606:2800:220:1::1]:7000"] = r.servers["93.184.216.1:7000"]
	for _, host := range []string{"ok.test", "OK.Test.", r.fake("ok.test").String(), "93.184.216.34", "2606:2800:220:1::1"} {
		c, code := r.socksTo(host, 7000)
		if code != socksSucceeded {
			t.Errorf("%s: reply %d", host, code)
			continue
		}
		io.WriteString(c, "hi")
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestUnixSocketIsAnExplicitProxy(t *testing.T) {
	var asked Endpoints
	r := newRig(t, allowing("ok.test"), func(c *Config) {
		c.ProcessOf = func(e Endpoints) (*event.Process, []event.Process) {
			asked = e
			return &event.Process{PID: int(e.Socket)}, nil
		}
	})
	r.outside("ok.test", 7000, serveTCP(t, echo))
	path := t.TempDir() + "/proxy.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r.p.ServeUnix(l)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 1 << 20 // spliced, also between families
	io.WriteString(c, "CONNECT ok.test:7000 HTTP/1.1\r\nHost: ok.test\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(oneByte{c}), &http.Request{Method: "CONNECT"})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	go func() {
		io.Copy(c, io.LimitReader(&counting{}, size))
		c.(*net.UnixConn).CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	got := r.allowances()
	if len(got) != 1 || got[0].Process == nil || got[0].Process.PID <= 0 || asked.Proto != "unix" {
		t.Errorf("events %s, asked of %+v", show(got), asked)
	}
}

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x03\x07ok.test\x01\xbb"))
	f.Add([]byte("\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"))
	f.Add([]byte("\x05\x01\x00\x04" + strings.Repeat("\x00", 16) + "\x00\x50"))
	f.Add([]byte("\x05\x02\x00\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		readSOCKSGreeting(strings.NewReader(string(b)), socksNoAuth)
		req, err := readSOCKSRequest(bufio.NewReader(strings.NewReader(string(b))))
		if err != nil {
			return
		}
		if req.Port == 0 || req.Host == (policy.Host{}) {
			t.Fatalf("%x gives %+v", b, req)
		}
		if again, err := policy.ParseHost(req.Host.String()); err != nil || again != req.Host {
			t.Fatalf("%x gives %+v, which is %+v, %v", b, req, again, err)
		}
		if b[3] == 3 && int(binary.BigEndian.Uint16(b[5+int(b[4]):])) != int(req.Port) {
			t.Fatalf("%x: port %d", b, req.Port)
		}
	})
}
