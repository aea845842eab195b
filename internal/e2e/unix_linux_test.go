package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestSocketsOfTheSandboxWork(t *testing.T) {
	h := newHome(t)
	h.mkdir("work/sub")
	w := h.work
	h.attack(
		"ulisten stream /tmp/a: ok", "uconnect stream /tmp/a: ok", "uconnect seqpacket /tmp/a: EPROTOTYPE",
		"ulisten seqpacket /run/b: ok", "uconnect seqpacket /run/b: ok",
		"ulisten stream /dev/shm/c: ok", "uconnect stream /dev/shm/c: ok",
		"ulisten stream @name: ok", "uconnect stream @name: ok", "uconnect stream @none: ECONNREFUSED",
		"ulisten stream "+w+"/d: ok", "uconnect stream "+w+"/d: ok", "uconnect stream "+w+"/sub/.././d: ok",
		"ulisten stream e: ok", "uconnect stream e: ok", "uconnect stream ./e: ok",
		"cd sub: ok", "uconnect stream ../e: ok", "cd /: ok",
		"symlink "+w+"/d /tmp/to-d: ok", "uconnect stream /tmp/to-d: ok",
		"link "+w+"/d "+w+"/hard: ok", "uconnect stream "+w+"/hard: ok",
		"rename "+w+"/d "+w+"/moved: ok", "uconnect stream "+w+"/moved: ok", "uconnect stream "+w+"/d: ENOENT",
		"ubind stream "+w+"/bound: ok", "uconnect stream "+w+"/bound: ECONNREFUSED",
		"uconnect stream /etc/hosts: ECONNREFUSED|EACCES", "uconnect stream /none: ENOENT", "uconnect stream /etc/hosts/x: ENOTDIR",
	).nothingDenied()
}

func TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded(t *testing.T) {
	h := newHome(t)
	h.mkdir("work/sub")
	inHome, inWork := h.serveUnix("other/host.sock"), h.serveUnix("work/host.sock")
	for _, s := range []*hostSocket{inHome, inWork} {
		h.attackOutside("uconnect stream " + s.path + ": ok")
		s.count.Store(0)
	}
	for name, test := range map[string]struct {
		before []string
		name   string
		real   string
	}{
		"by path":                   {nil, inHome.path, inHome.path},
		"in the working directory":  {nil, inWork.path, inWork.path},
		"relative":                  {nil, "host.sock", inWork.path},
		"relative, up":              {[]string{"cd sub: ok"}, "../host.sock", inWork.path},
		"through a link in /tmp":    {[]string{"symlink " + inHome.path + " /tmp/l: ok"}, "/tmp/l", inHome.path},
		"through a linked dir":      {[]string{"symlink " + h.dir + "/other /tmp/d: ok"}, "/tmp/d/host.sock", inHome.path},
		"through the process's cwd": {nil, "/proc/self/cwd/host.sock", ""},
		"through the root":          {nil, "/proc/self/root" + inHome.path, ""},
		"through process 1's root":  {nil, "/proc/1/root" + inHome.path, ""},
		"under another name":        {[]string{"link host.sock " + h.work + "/hard: ok"}, "hard", h.work + "/hard"},
		"renamed":                   {[]string{"rename host.sock " + h.work + "/moved: ok"}, "moved", h.work + "/moved"},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			want := "EACCES"
			if test.real == "" {
				want = "ELOOP|ENOENT|EACCES"
			}
			r := h.attack(append(test.before, "uconnect stream "+test.name+": "+want)...)
			inHome.untouched(t)
			inWork.untouched(t)
			if test.real == "" {
				return
			}
			events, n := r.denied()
			if n != 1 || events[0].Operation != event.UnixConnect || string(events[0].Object.Path) != test.real || events[0].Errno != "EACCES" ||
				events[0].Rule != "builtin:unix-socket" || events[0].Reason != event.NotAllowed || events[0].Layer != event.LayerSeccomp {
				t.Errorf("recorded:\n%s", describe(r.events))
			} else {
				checkCaller(t, h, events[0])
			}
			if !strings.Contains(r.err, "network.allowUnixSockets") {
				t.Errorf("no way to allow it is shown:\n%s", r.err)
			}
			os.Rename(h.work+"/moved", inWork.path)
		})
	}
}

// A socket of the host under a private directory is not there; the attempt is
// recorded all the same.
func TestSocketsBehindPrivateDirectoriesAreRecorded(t *testing.T) {
	h := newHome(t)
	if os.Getuid() != 0 {
		t.Skip("only root makes a socket in /run")
	}
	docker := h.serveUnix("/run/sallyport-e2e-docker.sock")
	tmp := h.serveUnix(filepath.Join("/tmp", filepath.Base(h.dir)+".sock"))
	for _, s := range []*hostSocket{docker, tmp} {
		r := h.attack("uconnect stream " + s.path + ": ENOENT")
		e := r.recorded(event.UnixConnect, nil)
		if _, n := r.denied(); n != 1 || string(e.Object.Path) != s.path || e.Errno != "ENOENT" || e.Reason != event.PathHidden {
			t.Errorf("recorded:\n%s", describe(r.events))
		}
		s.untouched(t)
	}
	h.attack("uconnect stream /run/none.sock: ENOENT").nothingDenied()
}

func TestListedSocketsAreReached(t *testing.T) {
	h := newHome(t)
	sockets := map[string]*hostSocket{
		"in sight": h.serveUnix("other/host.sock"), "where it may write": h.serveUnix("work/host.sock"),
		"in a hidden directory": h.serveUnix(".gnupg/S.agent"),
		"in /tmp":               h.serveUnix(filepath.Join("/tmp", filepath.Base(h.dir)+".listed")),
	}
	if os.Getuid() == 0 {
		sockets["in /run"] = h.serveUnix("/run/sallyport-e2e-listed.sock")
	}
	other := h.serveUnix("other/unlisted.sock")
	var list []string
	for _, s := range sockets {
		list = append(list, s.path)
	}
	h.usePolicy(fmt.Sprintf("network: {allowUnixSockets: [%s]}\n", strings.Join(list, ", ")))
	for name, s := range sockets {
		t.Run(name, func(t *testing.T) {
			h.t = t
			r := h.attack("uconnect stream "+s.path+": ok", "uconnect stream "+other.path+": EACCES", "rename "+s.path+" "+s.path+"2: EBUSY|EROFS|EACCES|EXDEV",
				"unlink "+s.path+": EBUSY|EROFS|EACCES")
			if s.count.Load() != 1 {
				t.Errorf("%d connections arrived", s.count.Load())
			}
			if n := r.attempts("unix."); n != 1 {
				t.Errorf("%d denied", n)
			}
			for _, e := range r.events {
				if e.Verdict == event.Allow && string(e.Object.Path) == s.path && strings.HasSuffix(e.Rule, "policy.yaml:1") && e.Process != nil {
					return
				}
			}
			t.Errorf("no record of what was let through:\n%s", describe(r.events))
		})
	}
	other.untouched(t)
}

// What the payload can give a listed name is not what the policy means.
func TestListedNamesAreNotForThePayloadToGive(t *testing.T) {
	h := newHome(t)
	s := h.serveUnix("work/host.sock")
	h.usePolicy("network: {allowUnixSockets: [" + h.work + "/later.sock]}\n")
	h.attack("link host.sock later.sock: ok", "uconnect stream later.sock: EACCES", "unlink later.sock: ok",
		"symlink host.sock later.sock: ok", "uconnect stream later.sock: EACCES", "unlink later.sock: ok",
		"rename host.sock later.sock: ok", "uconnect stream "+h.work+"/later.sock: EACCES")
	s.untouched(t)
}

// Two sandboxes may share a working directory; their sockets are their own.
func TestSocketsOfAnotherSandboxAreOutOfReach(t *testing.T) {
	h := newHome(t).usePolicy("{}\n")
	other := h.background("listen-on", "neighbour")
	path := filepath.Join(h.work, "neighbour")
	r := h.attack("uconnect stream neighbour: EACCES")
	if e := r.recorded(event.UnixConnect, nil); string(e.Object.Path) != path {
		t.Errorf("recorded:\n%s", describe(r.events))
	}
	other.stop()
}

func TestAllSocketsAreReachedWhenThePolicySaysSo(t *testing.T) {
	h := newHome(t).usePolicy("network: {allowAllUnixSockets: true}\n")
	s := h.serveUnix("other/host.sock")
	h.attack("uconnect stream "+s.path+": ok", "socket 1 2 0: ok", "socket 40 1 0: EACCES")
	if s.count.Load() != 1 {
		t.Errorf("%d connections arrived", s.count.Load())
	}
}

// race runs a helper that mixes up own and the host's socket, and wants none of
// its connections to have reached the latter, and each of them recorded.
func (h *home) race(helper, own string, s *hostSocket) {
	h.t.Helper()
	r := h.helper(helper, own, s.path).ok()
	s.untouched(h.t)
	var won, lost int
	if _, err := fmt.Sscan(r.out, &won, &lost); err != nil || won == 0 || lost == 0 {
		h.t.Errorf("own %d, denied %d: no race took place\n%s", won, lost, r.out)
	}
	if _, n := r.denied(); n != uint64(lost) {
		h.t.Errorf("%d denials recorded, %d made", n, lost)
	}
}

// The address that is decided on is the one that is connected to.
func TestRaceForTheAddressIsNotWon(t *testing.T) {
	h := newHome(t)
	s := h.serveUnix("other/host.sock")
	h.race("race-address", "/tmp/"+strings.Repeat("o", len(s.path)-5), s)
}

func TestRaceForALinkIsNotWon(t *testing.T) {
	h := newHome(t)
	s := h.serveUnix("other/host.sock")
	h.race("race-link", "/tmp/own", s)
	h.race("race-link", h.work+"/own", s)
}

func TestConnectWaitsAsItWouldOutside(t *testing.T) {
	h := newHome(t)
	h.helper("blocking").ok().says("first: ok\n").says("non-blocking: EAGAIN\n").says("with a limit: EAGAIN true\n").
		says("accepted later: ok true\n").says("with a signal: EINTR\n")
}

func TestBothSidesOfAConnectionSeeTheSameUser(t *testing.T) {
	h := newHome(t)
	// The supervisor connects: its process has no number inside.
	h.helper("peercred").ok().says("server sees pid false uid true gid true\n").says("client sees pid true uid true gid true\n")
}

// A socket as standard input is of the host's network, wherever it leads.
func TestSocketsAsStandardStreamsReachNothing(t *testing.T) {
	target, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	tcp, err := net.Listen("tcp4", target.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, network := range []string{"tcp4", "udp4"} {
		h := newHome(t)
		c, err := net.Dial(network, target.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		h.stdin = f
		h.helper("stdin-connect", target.LocalAddr().String()).ok().says("connect: ENOTSOCK\n").says("sendto: ENOTSOCK\n")
		f.Close()
		c.Close()
	}
}
