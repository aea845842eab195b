package sandbox

import (
	"golang.org/x/sys/unix"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestStatIsReadWhateverTheCommandIsCalled(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987 20 21"
	for _, comm := range []string{"sh", "a b", "a) S 1 2 (b", "", "((", "\n"} {
		got, start, err := parseStat("42 (" + comm + ")" + tail)
		if err != nil || got != comm || start != "987" {
			t.Errorf("%q: got %q, %q, %v", comm, got, start, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (sh", ") (", "42 (sh) S 1"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987 20 21")
	f.Fuzz(func(t *testing.T, s string) {
		if comm, _, err := parseStat(s); err == nil && !strings.Contains(s, comm) {
			t.Errorf("%q is not in %q", comm, s)
		}
	})
}

func TestConnectionIsTracedToTheProcessThatHoldsIt(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// bash opens the connection, its child only holds standard streams.
	cmd := exec.Command("bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/$0; echo; read -r x <&3`, port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = out.Read(make([]byte, 1)) // by now it is in its last read
	diag := os.NewFile(uintptr(netlinkHere(unix.NETLINK_INET_DIAG)), "sock_diag")
	defer diag.Close()
	p := processes{diag: diag, root: os.Getpid()}
	id := socketID{proto: 6, local: c.RemoteAddr().(*net.TCPAddr).AddrPort(), remote: c.LocalAddr().(*net.TCPAddr).AddrPort()}
	who, _ := p.find(diagRequest(id), diagInode)
	if who == nil || who.PID != cmd.Process.Pid || len(who.Argv) < 3 || string(who.Comm) != "bash" {
		t.Fatalf("got %+v, want bash[%d]", who, cmd.Process.Pid)
	}
	id.local = l.Addr().(*net.TCPAddr).AddrPort()
	if who, _ := p.find(diagRequest(id), diagInode); who != nil {
		t.Errorf("a connection that does not exist belongs to %+v", who)
	}
	p.left = 0
	if who, _ := p.find(diagRequest(socketID{proto: 6}), diagInode); who != nil {
		t.Errorf("no connection at all belongs to %+v", who)
	}
}
