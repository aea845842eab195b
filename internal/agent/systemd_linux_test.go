package agent

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAServiceManagerIsToldHowItStands(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	if err := Notify(Reloading(), "STATUS=x"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, err := l.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || !strings.HasSuffix(got, "\nSTATUS=x") {
		t.Errorf("%q, %v", got, err)
	}
	t.Setenv("NOTIFY_SOCKET", name+"-gone")
	if Notify("READY=1") == nil {
		t.Error("nobody listens, and that is no error")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
}

// activated runs this test's binary as a service manager starts a service, with
// a socket of a kind as descriptor 3.
func activated(t *testing.T, kind int) string {
	t.Helper()
	path := filepath.Join(scratch(t), "socket")
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, 5)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0"`, "/proc/self/exe")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[3] = self
	cmd.Env = []string{roleVariable + "=activated"}
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func activatedRole() {
	l, err := Activated()
	switch {
	case err != nil:
		os.Stdout.WriteString(err.Error())
	case l == nil:
		os.Stdout.WriteString("none")
	default:
		os.Stdout.WriteString("listening on " + filepath.Base(l.Addr().String()))
	}
}

func TestAPassedSocketIsTaken(t *testing.T) {
	if got := activated(t, unix.SOCK_SEQPACKET); got != "listening on socket" {
		t.Errorf("%q", got)
	}
	if got := activated(t, unix.SOCK_STREAM); !strings.Contains(got, "not a SOCK_SEQPACKET socket") {
		t.Errorf("a stream socket: %q", got)
	}
	t.Setenv("LISTEN_PID", "1")
	if l, err := Activated(); l != nil || err != nil {
		t.Errorf("one that is for another process: %v, %v", l, err)
	}
}

func TestAnAbandonedSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(path); err == nil {
		l.Close()
		t.Error("two listen on one socket")
	}
	first.SetUnlinkOnClose(false)
	first.Close()
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(plain); err == nil {
		l.Close()
		t.Error("a file was replaced by a socket")
	}
}

func TestTheUnitsAreWhatSystemdTakes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no"}
	for _, name := range []string{"sallyport-agent.service", "sallyport-agent.socket"} {
		b, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		b = []byte(strings.ReplaceAll(string(b), "/usr/local/bin/sallyport-agent", self)) // verify looks for it
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, filepath.Join(dir, name))
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "sallyport-agent") {
		t.Errorf("%v: %s", err, out)
	}
	unit, err := os.ReadFile("systemd/sallyport-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	_, set, _ := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	set, _, _ = strings.Cut(set, "\n")
	if n := len(strings.Fields(set)); n != len(kept)+4 { // and four to start
		t.Errorf("the unit leaves %d capabilities, the agent keeps %d", n, len(kept))
	}
}
