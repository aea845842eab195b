package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// The test binary runs itself again for what must happen in a new network
// namespace ("stage1") and, after one more exec that drops every capability,
// for what a payload tries there.
const (
	helperEnv = "SALLYPORT_NET_TEST_HELPER"
	nobody    = 65534
)

func init() {
	name := os.Getenv(helperEnv)
	if name == "" {
		return
	}
	// In an init function, since a package can have only one TestMain.
	run, ok := helpers[name]
	if !ok {
		run = func([]string) error { return fmt.Errorf("no helper %q", name) }
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inNewNet prepares a copy of the test binary in new user and network
// namespaces, with stage 1's capabilities.
func inNewNet(helper string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+helper)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_NET_BIND_SERVICE},
	}
	return cmd
}

// openHere opens sockets in this network namespace, as stage 1 does.
func openHere(specs []socketSpec) ([]int, error) {
	var fds []int
	for _, s := range specs {
		fd, err := unix.Socket(s.family, s.kind|unix.SOCK_CLOEXEC, s.proto)
		if err != nil {
			return nil, fmt.Errorf("open socket %s: %w", s.name, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// setupHere builds the network in this namespace. The second result says why
// there can be no ping sockets.
func setupHere(n plan.Network) (*netSockets, syscall.Errno, error) {
	p := newProgram()
	ping := p.setKnobs(os.Getgid())
	if p.run(); p.failure[0] != 0 {
		return nil, 0, p.explain(p.failure)
	}
	fds, err := openHere(networkSockets(n))
	if err != nil {
		return nil, 0, err
	}
	s, err := setupNetwork(n, fds)
	return s, syscall.Errno(p.results[ping]), err
}

// netlinkHere opens a netlink socket in this namespace.
func netlinkHere(proto int) int {
	fds, err := openHere([]socketSpec{{"netlink", unix.AF_NETLINK, unix.SOCK_RAW, proto}})
	if err != nil {
		panic(err)
	}
	return fds[0]
}

// testStage1 builds the network, sends its sockets to the parent over
// descriptor 3, and becomes a payload without capabilities.
func testStage1(args []string) error {
	s, noPing, err := setupHere(availableNetwork(plan.DefaultNetwork()))
	if err != nil {
		return err
	}
	var ping string
	if noPing != 0 {
		ping = noPing.Error()
	}
	msg, err := json.Marshal(ping)
	if err != nil {
		return err
	}
	fds := []int{int(s.TCP4.Fd()), int(s.TCP6.Fd()), int(s.DNSUDP.Fd()), int(s.DNSTCP.Fd()), int(s.NFLOG.Fd())}
	if err := unix.Sendmsg(3, msg, unix.UnixRights(fds...), nil, 0); err != nil {
		return fmt.Errorf("send sockets: %w", err)
	}
	unix.CloseOnExec(3)
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	os.Setenv(helperEnv, args[0])
	return syscall.Exec("/proc/self/exe", args, os.Environ()) // args[0] is the payload's own name
}

// asEachUser runs a test as the current user and, where that is root, once
// more as a user without any privilege.
func asEachUser(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Run(fmt.Sprintf("uid=%d", os.Getuid()), test)
	if os.Getuid() == 0 {
		againAsNobody(t)
	}
}

// asNobody is for what does not hold for root: the files in /proc/sys belong
// to it in every namespace.
func asNobody(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getuid() == 0 {
		againAsNobody(t)
		return
	}
	t.Run(fmt.Sprintf("uid=%d", os.Getuid()), test)
}

func againAsNobody(t *testing.T) {
	t.Helper()
	t.Run(fmt.Sprintf("as=%d", nobody), func(t *testing.T) {
		name, _, _ := strings.Cut(t.Name(), "/")
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+name+"$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, fmt.Appendf(nil, "--- PASS: %s/uid=%d ", name, nobody)) {
			t.Fatalf("as uid %d: %v\n%s", nobody, err, out)
		}
	})
}

// netRun is a network namespace with a payload in it and, in this process, the
// far side of its doors.
type netRun struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     bytes.Buffer
	stdin   *os.File
	sockets netSockets
	read    chan error

	mu      sync.Mutex
	denials []packetDenial
	lost    uint64
}

// startNet starts a payload and receives its sockets.
func startNet(t *testing.T, payload string, args ...string) *netRun {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &netRun{t: t, cmd: inNewNet("stage1", append([]string{payload}, args...)...), stdin: stdin, read: make(chan error, 1)}
	r.cmd.ExtraFiles, r.cmd.Stdin = []*os.File{theirs}, in
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	in.Close()
	t.Cleanup(func() { r.cmd.Process.Kill(); stdin.Close(); r.sockets.Close() })
	r.receive(int(ours.Fd()))
	go func() { r.read <- readNFLOG(r.sockets.NFLOG, r.denied, r.missed) }()
	return r
}

func (r *netRun) receive(fd int) {
	r.t.Helper()
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(5*4))
	n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		r.t.Fatalf("receive sockets: %d bytes, %v; stage 1: %v %s", n, err, r.cmd.Wait(), &r.out)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		r.t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		r.t.Fatal(err)
	}
	var files []*os.File
	for _, fd := range fds[:4] {
		files = append(files, os.NewFile(uintptr(fd), "socket"))
	}
	nflog, err := nflogFile(fds[4])
	if err != nil {
		r.t.Fatal(err)
	}
	r.sockets = netSockets{TCP4: files[0], TCP6: files[1], DNSUDP: files[2], DNSTCP: files[3], NFLOG: nflog}
	var ping string
	if err := json.Unmarshal(buf[:n], &ping); err != nil || ping != "" {
		r.t.Errorf("ping sockets: %q, %v", ping, err)
	}
}

func (r *netRun) denied(d packetDenial) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denials = append(r.denials, d)
}

func (r *netRun) missed(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += n
}

// wait ends the run and returns what the payload printed and what was refused.
func (r *netRun) wait() (string, []packetDenial) {
	r.t.Helper()
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("payload: %v", err)
	}
	if err := stopNFLOG(r.sockets.NFLOG, plan.DefaultNetwork().NFLOGGroup); err != nil {
		r.t.Error(err)
	}
	if err := <-r.read; err != nil {
		r.t.Error(err)
	}
	if r.lost != 0 {
		r.t.Errorf("%d records lost", r.lost)
	}
	if r.t.Failed() {
		r.t.Logf("payload's output:\n%s", &r.out)
	}
	return r.out.String(), r.denials
}

// serveTCP answers every connection with the address it was made to and the
// address it came from.
func (r *netRun) serveTCP(files ...*os.File) {
	for _, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s from %s\n", unmapped(c.LocalAddr()), unmapped(c.RemoteAddr()))
				c.Close()
			}
		}()
	}
}

func unmapped(a net.Addr) netip.AddrPort {
	ap := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// serveDNS answers every datagram with the same bytes in capitals, from the
// address it was sent to.
func (r *netRun) serveDNS() {
	c, err := net.FilePacketConn(r.sockets.DNSUDP)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	udp := c.(*net.UDPConn)
	go func() {
		buf, oob := make([]byte, 1<<16), make([]byte, 256)
		for {
			n, oobn, _, from, err := udp.ReadMsgUDPAddrPort(buf, oob)
			if err != nil {
				return
			}
			msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
			i := slices.IndexFunc(msgs, func(m unix.SocketControlMessage) bool {
				return m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO
			})
			if i < 0 {
				r.t.Errorf("no destination with a datagram from %s", from)
				return
			}
			info := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(msgs[i].Data[:16])})
			if _, _, err := udp.WriteMsgUDPAddrPort(bytes.ToUpper(buf[:n]), info, from); err != nil {
				r.t.Errorf("answer %s: %v", from, err)
			}
		}
	}()
}
