package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// freePort is one of the host's loopback that nobody has now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// page asks a web server; empty: it is not there.
func page(addr string) string {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// hostServer answers on the host's loopback, in one family.
func hostServer(t *testing.T, addr string) int {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "host %d bytes %x", len(b), sha256.Sum256(b))
	}))
	return l.Addr().(*net.TCPAddr).Port
}

// recordedPort gives what the record says of a port.
func (h *home) recordedPort(op event.Operation, port int) (list []event.Event) {
	for _, e := range h.events() {
		if e.Operation == op && int(e.Object.Port) == port {
			list = append(list, e)
		}
	}
	return list
}

func TestAPublishedServerIsReachedFromTheHostAlone(t *testing.T) {
	need(t, "python3", "node")
	for name, serve := range map[string]string{
		"python, every address": `exec python3 -m http.server 3000`,
		"node, IPv4":            `exec node -e 'require("http").createServer((q, r) => r.end("node " + q.socket.remoteAddress)).listen(3000, "127.0.0.1")'`,
		"node, IPv6":            `exec node -e 'require("http").createServer((q, r) => r.end("node " + q.socket.remoteAddress)).listen(3000, "::1")'`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			port := freePort(t)
			h.usePolicy(fmt.Sprintf("publish: [\"%d:3000\"]\n", port))
			r := h.start("dev", "sh", "-c", serve)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			waitFor(t, "the server to be reached", func() bool { return page(addr) != "" })
			for range 20 { // more than one batch of sockets
				if page(addr) == "" {
					t.Fatal("the server is not reached any more")
				}
			}
			err := internet.there(func() error {
				c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", hereV4, port), time.Second)
				if err == nil {
					c.Close()
				}
				return err
			})
			if err == nil {
				t.Error("another host reaches it")
			}
			if out := h.sallyport("exec", r.ID, "--", "curl", "-sS", "-m", "5", "--noproxy", "*", fmt.Sprintf("http://127.0.0.1:%d/", port)); out.code == 0 {
				t.Error("the sandbox reaches the host's end")
			}
			h.sallyport("stop", r.ID).ok()
			<-r.ended
			if page(addr) != "" {
				t.Error("the port is open after the run")
			}
			list := h.recordedPort(event.NetAccept, 3000)
			n := uint64(0)
			for _, e := range list {
				n += e.Count
				if e.Verdict != event.Allow || e.Layer != event.LayerProxy || !strings.HasSuffix(e.Rule, "policy.yaml:1") {
					t.Errorf("recorded: %+v", e)
				}
			}
			if n < 21 {
				t.Errorf("%d connections are recorded, want 21 at least:\n%s", n, describe(list))
			}
		})
	}
}

func TestOnlyTheNamedPortOfTheHostIsReached(t *testing.T) {
	need(t, "curl", "python3")
	h := newHome(t)
	open, six, shut := hostServer(t, "127.0.0.1:0"), hostServer(t, "[::1]:0"), hostServer(t, "127.0.0.1:0")
	h.usePolicy(fmt.Sprintf("hostPorts: [%d, %d]\n", open, six))
	h.write("work/body", strings.Repeat("0123456789abcdef", 1<<16)) // 1 MiB
	curl := func(url string) *result {
		return h.run("curl", "-sS", "-m", "200", "--noproxy", "*", "--data-binary", "@body", url)
	}
	want := fmt.Sprintf("host %d bytes %x", 1<<20, sha256.Sum256(bytes.Repeat([]byte("0123456789abcdef"), 1<<16)))
	for _, url := range []string{fmt.Sprintf("http://127.0.0.1:%d/", open), fmt.Sprintf("http://[::1]:%d/", open), fmt.Sprintf("http://localhost:%d/", six)} {
		if r := curl(url).ok(); r.out != want {
			t.Errorf("%s: %q", url, r.out)
		}
	}
	for _, url := range []string{
		fmt.Sprintf("http://127.0.0.1:%d/", shut), fmt.Sprintf("http://[::1]:%d/", shut),
		fmt.Sprintf("http://%s:%d/", hereV4, open), // the same port, and not the loopback
		fmt.Sprintf("http://127.0.0.2:%d/", open),
	} {
		if r := curl(url); strings.HasPrefix(r.out, "host ") {
			t.Errorf("%s is reached: %q", url, r.out)
		}
	}
	// By the proxy, too, it would have to be allowed.
	h.run("sh", "-c", fmt.Sprintf(`curl -sS -f --noproxy '' -x "$HTTP_PROXY" http://127.0.0.1:%d/`, shut)).refused()
	list := h.recordedPort(event.NetConnect, open)
	for _, e := range list {
		if e.Verdict == event.Allow && e.Object.Host == "localhost" && (e.Process == nil || e.Process.Comm != "curl") {
			t.Errorf("recorded without who it was: %+v", e)
		}
	}
	if len(list) < 2 || !strings.HasSuffix(list[0].Rule, "policy.yaml:1") {
		t.Errorf("recorded:\n%s", describe(list))
	}
	r := h.run("python3", "-c", fmt.Sprintf("import socket; socket.socket().bind(('127.0.0.1', %d))", open))
	if !strings.Contains(r.err, "Address already in use") {
		t.Errorf("the command takes the port for itself: %s", r.err)
	}
}

func TestAHostPortWithoutAServerIsRecordedAsSuch(t *testing.T) {
	need(t, "curl")
	h := newHome(t)
	port := freePort(t)
	h.usePolicy(fmt.Sprintf("hostPorts: [%d]\n", port))
	h.run("curl", "-sS", "-m", "20", "--noproxy", "*", fmt.Sprintf("http://127.0.0.1:%d/", port)).refused()
	if list := h.recordedPort(event.NetConnect, port); len(list) != 1 || list[0].Reason != event.Unreachable || list[0].Verdict != event.Allow {
		t.Errorf("recorded:\n%s", describe(list))
	}
}

// A half-closed connection is how many a protocol says that it is done.
func TestBothHalvesOfAPublishedConnectionEndByThemselves(t *testing.T) {
	need(t, "python3")
	h := newHome(t)
	port := freePort(t)
	h.usePolicy(fmt.Sprintf("publish: [\"%d:4000\"]\n", port))
	h.start("count", "python3", "-c", `
import socket
l = socket.create_server(("127.0.0.1", 4000), backlog=1)
while True:
    c, _ = l.accept()
    n = 0
    while b := c.recv(1 << 16): n += len(b)
    c.sendall(str(n).encode()); c.close()
`)
	once := func() string {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return ""
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(slow))
		if _, err := c.Write(make([]byte, 3<<20)); err != nil {
			return ""
		}
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		return string(b)
	}
	waitFor(t, "the server to count", func() bool { return once() == fmt.Sprint(3<<20) })
}

func TestAPortThatCannotBePublishedStartsNothing(t *testing.T) {
	h := newHome(t)
	taken := hostServer(t, "127.0.0.1:0")
	for policy, hint := range map[string]string{
		fmt.Sprintf("publish: [\"%d:3000\"]\n", taken):   "another program has that port",
		"publish: [\"0.0.0.0:3000:3000\"]\n":             "no loopback address",
		"publish: [\"" + hereV4 + ":3000:3000\"]\n":      "no loopback address",
		"hostPorts: [53]\n":                              "resolver",
		"hostPorts: [0]\n":                               "from 1 to 65535",
		"publish: [\"" + fmt.Sprint(taken) + ":70000\"]": "publish wants",
	} {
		r := h.usePolicy(policy).run("touch", "ran")
		if _, err := os.Stat(h.work + "/ran"); r.code != 125 || !strings.Contains(r.err, hint) || err == nil {
			t.Errorf("%s: exit status %d\n%s", policy, r.code, r.err)
		}
	}
}
