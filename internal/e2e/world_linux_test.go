package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport"
)

// The world is two network namespaces joined by a veth pair: in one, sallyport
// and its sandboxes; in the other, "the internet", whose servers write down
// everything that reaches them. Nothing leaves the machine. The addresses look
// public, because a policy refuses the special ones.
const (
	hereV4   = "93.184.215.1"
	thereV4  = "93.184.215.14"
	otherV4  = "93.184.215.15" // a second host out there
	dnsV4    = "93.184.215.53"
	hereV6   = "2606:2800:21f::1"
	thereV6  = "2606:2800:21f::14"
	linkBits = 24
)

// slow is when a loaded machine is given up on.
const slow = time.Minute

// soon is a second, and what becomes of it in a test VM, whose processor is emulated.
func soon() time.Duration {
	if os.Getenv("SALLYPORT_TESTVM") != "" {
		return 20 * time.Second
	}
	return time.Second
}

const worldEnv = "SALLYPORT_E2E_WORLD"

// Set by TestMain, inside the world.
var (
	binary   string // sallyport
	base     string // a directory that the ordinary user can reach
	internet *servers
)

func TestMain(m *testing.M) {
	sallyport.Init()
	if helper, ok := helpers[os.Getenv(helperEnv)]; ok {
		helper()
		os.Exit(0)
	}
	if os.Getenv(worldEnv) == "" {
		os.Exit(enterWorld())
	}
	code, err := inWorld(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "make the tests' world:", err)
		code = 1
	}
	os.Exit(code)
}

// enterWorld runs this test binary again in namespaces of its own. An ordinary
// user needs a user namespace for that.
func enterWorld() int {
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin := os.Getenv("SALLYPORT_BIN")
	if bin == "" {
		bin = filepath.Join(dir, "sallyport")
		build := exec.Command("go", "build", "-o", dir+"/", "github.com/sallyport/sallyport/cmd/...")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build sallyport: %v\n%s", err, out)
			return 1
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), worldEnv+"="+dir, "SALLYPORT_BIN="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW}
	}
	runtime.LockOSThread() // Pdeathsig
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "make namespaces for the tests:", err)
			return 1
		}
		return cmd.ProcessState.ExitCode()
	}
	return 0
}

func inWorld(m *testing.M) (int, error) {
	base, binary = os.Getenv(worldEnv), os.Getenv("SALLYPORT_BIN")
	if err := os.Chmod(base, 0o755); err != nil {
		return 0, err
	}
	if err := joinNamespaces(); err != nil {
		return 0, err
	}
	if err := ownResolver(); err != nil {
		return 0, err
	}
	return m.Run(), internet.err()
}

// joinNamespaces makes the far side and the link to it.
func joinNamespaces() error {
	there := make(chan error)
	var thread int
	done := make(chan struct{})
	// Sockets stay in the namespace of the thread that makes them.
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			there <- err
			return
		}
		thread = unix.Gettid()
		there <- nil
		<-done
		var err error
		if err = addressThere(); err == nil {
			internet, err = startServers()
		}
		there <- err
		if err == nil {
			internet.loop()
		}
	}()
	if err := <-there; err != nil {
		return fmt.Errorf("unshare network: %w", err)
	}
	if err := addressHere(thread); err != nil {
		return err
	}
	close(done)
	return <-there
}

func addressHere(thread int) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", thread), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there", PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	return configure("here", []string{hereV4 + "/24", hereV6 + "/64"}, thereV4, thereV6)
}

func addressThere() error {
	return configure("there", []string{thereV4 + "/24", otherV4 + "/24", dnsV4 + "/24", thereV6 + "/64"}, hereV4, hereV6)
}

func configure(name string, addrs []string, via ...string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, l := range []netlink.Link{lo, link} {
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
		}
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	for _, gw := range via {
		ip := net.ParseIP(gw)
		all := "0.0.0.0/0"
		if ip.To4() == nil {
			all = "::/0"
		}
		_, dst, _ := net.ParseCIDR(all)
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: ip}); err != nil {
			return fmt.Errorf("add route via %s: %w", gw, err)
		}
	}
	return nil
}

// ownResolver gives this mount namespace a resolv.conf that names the far
// side's DNS server.
func ownResolver() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for path, text := range map[string]string{
		"/etc/resolv.conf": "nameserver " + dnsV4 + "\n",
		"/etc/hosts":       "127.0.0.1 localhost\n",
	} {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		f := filepath.Join(base, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(f, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount own %s: %w", path, err)
		}
	}
	return nil
}

// ordinary gives the credentials of the user that sallyport runs as: never
// root, no capability, no group but its own.
func ordinary() (uid, gid int) {
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid()
	}
	if s := os.Getenv("SALLYPORT_E2E_UID"); s != "" {
		n, _ := strconv.Atoi(s)
		return n, n
	}
	return 65534, 65534
}
