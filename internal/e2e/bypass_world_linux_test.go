package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/bypass"
	"github.com/sallyport/sallyport/internal/cgroup"
)

// bypassWorld is what the table's attempts aim at on the host.
type bypassWorld struct {
	h          *home
	names      *strings.Replacer
	sockets    []*hostSocket
	connection *os.File // a connected socket that the sandbox must not get
}

// bypassWorld makes it.
func (h *home) bypassWorld() bypassWorld {
	h.t.Helper()
	h.write(".ssh/id", "KEY")
	h.write("other/file", "mine")
	h.write("work/.bashrc", "# mine")
	h.write("work/sub/.vscode/settings.json", "{}")
	for _, f := range []string{"plain", "own", "alternative/x"} {
		h.write("work/"+f, "x")
	}
	h.symlink("../.ssh/id", "work/to-key")
	h.symlink("../other/file", "work/to-file")
	tmp, err := os.MkdirTemp("/tmp", "bypass-")
	if err == nil {
		err = os.Chmod(tmp, 0o777)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(tmp) })
	mount, err := cgroup.Mount()
	if err != nil {
		h.t.Fatal(err)
	}
	abstract := "@bypass-" + filepath.Base(h.dir)
	w := bypassWorld{h: h, names: strings.NewReplacer("$there6", thereV6, "$there", thereV4, "$other", otherV4, "$dns", dnsV4, "$here6", hereV6, "$here", hereV4,
		"$home", h.dir, "$work", h.work, "$tmp", tmp, "$abstract", abstract, "$pid", fmt.Sprint(os.Getpid()), "$self", "self", "$cgroup", mount, "$long", raceFor().String())}
	for _, path := range []string{"other/host.sock", "work/host.sock", tmp + "/s.sock"} {
		w.sockets = append(w.sockets, h.serveUnix(path))
	}
	c, err := net.Dial("udp4", thereV4+":5000")
	if err != nil {
		h.t.Fatal(err)
	}
	if w.connection, err = c.(*net.UDPConn).File(); err != nil {
		h.t.Fatal(err)
	}
	c.Close()
	h.t.Cleanup(func() { w.connection.Close() })
	w.sockets = append(w.sockets, h.serveUnix(abstract), h.serveAs(h.dir+"/other/giver.sock", w.give),
		h.serveAs(h.dir+"/other/agent.sock", answerAsAgent), h.serveAs(h.mkdir(".docker/run")+"/docker.sock", answerAsDocker))
	h.startBus(h.dir + "/other/bus")
	return w
}

// expand puts names of this world in place of the table's.
func (w bypassWorld) expand(v bypass.Vector) bypass.Vector {
	all := func(list []string) (out []string) {
		for _, s := range list {
			out = append(out, w.names.Replace(s))
		}
		return out
	}
	v.Try, v.Arrives, v.Records = all(v.Try), all(v.Arrives), slices.Clone(v.Records)
	for i, r := range v.Records {
		r.Addr, r.Path, r.Host = w.names.Replace(r.Addr), w.names.Replace(r.Path), w.names.Replace(r.Host)
		v.Records[i] = r
	}
	return v
}

// state is what no attempt may change.
func (w bypassWorld) state() string {
	return snapshot(w.h.t, w.h.dir+"/other") + "\n" + snapshot(w.h.t, w.h.dir+"/.ssh") + "\n.bashrc: " + w.h.read("work/.bashrc")
}

// forget takes what has come so far for no attempt's.
func (w bypassWorld) forget() {
	internet.reset()
	for _, s := range w.sockets {
		s.count.Store(0)
	}
}

// reached lists who was.
func (w bypassWorld) reached() (list []string) {
	for _, s := range w.sockets {
		if n := s.count.Load(); n > 0 {
			list = append(list, fmt.Sprintf("%d connections reached %s", n, s.path))
		}
	}
	return list
}

// serveAs listens on a unix socket, and has each connection answered.
func (h *home) serveAs(path string, answer func(*net.UnixConn)) *hostSocket {
	h.t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		h.t.Fatal(err)
	}
	if !strings.HasPrefix(path, "@") {
		if err := os.Chmod(path, 0o777); err != nil {
			h.t.Fatal(err)
		}
		h.own(path)
	}
	s := &hostSocket{Listener: l, path: path}
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			s.count.Add(1)
			answer(c.(*net.UnixConn))
			c.Close()
		}
	}()
	return s
}

// give hands a connected socket over.
func (w bypassWorld) give(c *net.UnixConn) {
	_, _, _ = c.WriteMsgUnix([]byte("x"), unix.UnixRights(int(w.connection.Fd())), nil)
}

func answerAsAgent(c *net.UnixConn) {
	var ask [5]byte
	if _, err := io.ReadFull(c, ask[:]); err == nil {
		_, _ = c.Write([]byte{0, 0, 0, 5, 12, 0, 0, 0, 0})
	}
}

func answerAsDocker(c *net.UnixConn) {
	if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
	}
}

// startBus starts a session bus, if there is a program for it: else nobody
// answers the attempt outside either, and it says so.
func (h *home) startBus(path string) {
	h.t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		return
	}
	cmd := h.program(h.t.Context(), program, "--session", "--nofork", "--address=unix:path="+path)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(h.t, "the bus", func() bool { return exists(path) })
}
