package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sandbox's network namespace as the product makes it, but with the command
// line tools: this package does not know how the product does it. It takes no
// privilege: a user namespace gives it.

const (
	netnsEnv  = "SALLYPORT_TEST_NETNS"
	netnsPort = 9040
	netnsV4   = "198.18.0.1"
	netnsV6   = "fd5a:11ce::1"
)

const netnsRules = `
table inet test {
	chain pre {
		type filter hook prerouting priority mangle; policy accept;
		ip daddr 127.0.0.0/8 accept
		ip6 daddr ::1 accept
		tcp dport 53 accept
		meta nfproto ipv4 meta l4proto tcp tproxy ip to 198.18.0.1:9040 accept
		meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [fd5a:11ce::1]:9040 accept
	}
}`

func TestMain(m *testing.M) {
	var err error
	switch what := os.Getenv(benchEnv); {
	case what != "":
		err = benchMain(what)
	case os.Getenv(netnsEnv) != "":
		err = netnsMain()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// netnsMain runs inside: it sets the namespace up, hands the listeners over and
// holds the namespace until its parent goes.
func netnsMain() error {
	for _, c := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", netnsV4 + "/32", "dev", "lo"},
		{"ip", "-6", "addr", "add", netnsV6 + "/128", "dev", "lo", "nodad"},
		{"ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "local", "src", netnsV4},
		{"ip", "-6", "route", "add", "local", "::/0", "dev", "lo", "table", "local", "src", netnsV6},
		{"mount", "--make-rprivate", "/"},
		{"mount", "--bind", os.Getenv(netnsEnv) + "/resolv.conf", "/etc/resolv.conf"},
		{"mount", "--bind", os.Getenv(netnsEnv) + "/hosts", "/etc/hosts"},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, out)
		}
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(netnsRules)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	fds, err := netnsListen()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(3, []byte{1}, unix.UnixRights(fds...), nil, 0); err != nil {
		return err
	}
	unix.Read(3, make([]byte, 1)) // until the parent goes
	return nil
}

func netnsListen() ([]int, error) {
	transparent := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
		})
	}}
	transparent.SetMultipathTCP(false)
	var fds []int
	for _, addr := range []string{netnsV4, "[" + netnsV6 + "]", "[::]:53"} {
		if !strings.HasSuffix(addr, ":53") {
			addr += fmt.Sprint(":", netnsPort)
		}
		l, err := transparent.Listen(context.Background(), "tcp", addr)
		if err != nil {
			return nil, err
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		fds = append(fds, int(f.Fd()))
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6unspecified, Port: 53})
	if err != nil {
		return nil, err
	}
	f, err := u.File()
	if err != nil {
		return nil, err
	}
	return append(fds, int(f.Fd())), nil
}

// netns is a namespace with the rig's proxy in front of it.
type netns struct {
	r   *rig
	pid int
	dir string
}

func newNetns(t testing.TB, r *rig) *netns {
	t.Helper()
	for _, tool := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	n := &netns{r: r, dir: t.TempDir()}
	os.WriteFile(n.dir+"/resolv.conf", []byte("nameserver 127.0.0.53\n"), 0o644)
	os.WriteFile(n.dir+"/hosts", []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644)
	sp, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(sp[1]), "theirs")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), netnsEnv+"="+n.dir)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("this system forbids user namespaces: %v", err)
		}
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		syscall.Close(sp[0])
		cmd.Wait()
	})
	n.pid = cmd.Process.Pid
	n.serve(sp[0])
	return n
}

// serve takes the listeners and runs the proxy on them.
func (n *netns) serve(sock int) {
	t := n.r.t
	oob := make([]byte, 128)
	_, oobn, _, _, err := syscall.Recvmsg(sock, make([]byte, 1), oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	msgs, _ := syscall.ParseSocketControlMessage(oob[:oobn])
	if len(msgs) != 1 {
		t.Fatal("the namespace could not be set up")
	}
	fds, _ := syscall.ParseUnixRights(&msgs[0])
	listener := func(fd int) net.Listener {
		f := os.NewFile(uintptr(fd), "listener")
		defer f.Close()
		l, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	f := os.NewFile(uintptr(fds[3]), "dns")
	defer f.Close()
	packets, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	ls := Listeners{
		TCP:       []net.Listener{listener(fds[0]), listener(fds[1])},
		DNSStream: listener(fds[2]),
		DNSPacket: packets.(*net.UDPConn),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.r.p.Serve(ctx, ls) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// realOrigin makes a rig's proxy ask the kernel, not the rig.
func realOrigin(c *Config) {
	c.Origin = nil
	c.Self = append(c.Self, netip.AddrPortFrom(netip.MustParseAddr(netnsV6), netnsPort))
}

// run runs a command inside.
func (n *netns) run(env []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args := append([]string{"-t", fmt.Sprint(n.pid), "-U", "-n", "-m", "--preserve-credentials", "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.dir, "LC_ALL=C.UTF-8"}, env...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// probe is what a small client inside found.
type probe struct {
	Got string
	Err string
}

// TestProbe is no test but the client that other tests run inside.
func TestProbe(t *testing.T) {
	addr := os.Getenv("SALLYPORT_TEST_PROBE")
	if addr == "" {
		t.Skip("no test but a client that other tests start in a namespace of their own")
	}
	var p probe
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err == nil {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 1)
		if _, err = c.Write([]byte("x")); err == nil {
			_, err = c.Read(b)
			p.Got = string(b)
		}
	}
	if err != nil {
		p.Err = err.Error()
	}
	out, _ := json.Marshal(p)
	fmt.Printf("\nPROBE %s\n", out)
}

// probe connects from inside to an address or name and echoes a byte.
func (n *netns) probe(addr string) probe {
	n.r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		n.r.t.Fatal(err)
	}
	out, err := n.run([]string{"SALLYPORT_TEST_PROBE=" + addr}, exe, "-test.run=^TestProbe$")
	_, line, ok := strings.Cut(out, "PROBE ")
	var p probe
	if !ok || json.Unmarshal([]byte(strings.SplitN(line, "\n", 2)[0]), &p) != nil {
		n.r.t.Fatalf("probe %s: %v: %s", addr, err, out)
	}
	return p
}
