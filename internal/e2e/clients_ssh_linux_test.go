package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// sshServer is a real sshd on the far side, one process a connection.
type sshServer struct {
	dir  string
	user string
}

// startSSH starts it once for all tests.
var startSSH = sync.OnceValues(func() (*sshServer, error) {
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	s := &sshServer{dir: filepath.Join(base, "ssh"), user: me.Username}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, err
	}
	for _, key := range []string{"host", "client"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, key)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	config := "HostKey %[1]s/host\nAuthorizedKeysFile %[1]s/client.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n" +
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nForceCommand echo hello from ssh\n"
	if err := os.WriteFile(s.config(), fmt.Appendf(nil, config, s.dir), 0o644); err != nil {
		return nil, err
	}
	return s, internet.there(func() error {
		l, err := net.Listen("tcp", "[::]:22")
		if err != nil {
			return err
		}
		go s.serve(countingListener{l, internet})
		return nil
	})
})

func (s *sshServer) config() string { return filepath.Join(s.dir, "sshd_config") }

// serve hands each connection to an sshd. As root that wants /run/sshd, which
// it gets in a mount namespace of its own.
func (s *sshServer) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			cmd := exec.Command("unshare", "--mount", "sh", "-c",
				`mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -i -e -f "$1"`, "sh", s.config())
			cmd.Stdin, cmd.Stdout = c, c
			_ = cmd.Run() // the client says what went wrong
		}()
	}
}

// ssh gives the client's command for a host.
func (s *sshServer) ssh(h *home, host string) []string {
	key, err := os.ReadFile(filepath.Join(s.dir, "client"))
	if err != nil {
		h.t.Fatal(err)
	}
	hostKey, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		h.t.Fatal(err)
	}
	path := h.write("work/key", string(key))
	if err := os.Chmod(path, 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.write("work/known_hosts", "ssh.test "+string(hostKey))
	return []string{"ssh", "-F", "none", "-i", path, "-o", "UserKnownHostsFile=" + h.work + "/known_hosts",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", s.user + "@" + host}
}

func TestSSHReachesAllowedNamesAndNothingElse(t *testing.T) {
	need(t, "ssh", "/usr/sbin/sshd")
	s, err := startSSH()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("allowed", func(t *testing.T) {
		h := newHome(t).allow("ssh.test")
		h.run(s.ssh(h, "ssh.test")...).ok().says("hello from ssh").allowed("ssh.test", 22)
		onlyArrived(t, "dns ssh.test", "tcp "+thereV4+":22")
	})
	t.Run("denied name", func(t *testing.T) {
		h := newHome(t).allow("ssh.test")
		h.run(s.ssh(h, "denied.test")...).refused().once(denial{op: event.NetDNS, host: "denied.test", rule: "builtin:default-deny"})
		silent(t)
	})
	t.Run("address literal", func(t *testing.T) {
		h := newHome(t).allow("ssh.test")
		r := h.run(s.ssh(h, thereV4)...).refused()
		r.once(denial{op: event.NetConnect, addr: thereV4, port: 22, reason: event.AddressLiteral, rule: "builtin:address-literal"})
		if !strings.Contains(r.err, "sallyport: refused: "+thereV4) {
			t.Errorf("ssh does not say why: %s", r.err)
		}
		silent(t)
	})
	t.Run("entry for another port", func(t *testing.T) {
		h := newHome(t).allow("ssh.test:443")
		h.run(s.ssh(h, "ssh.test")...).refused().
			once(denial{op: event.NetConnect, host: "ssh.test", port: 22, reason: event.PortDenied, rule: "builtin:default-deny"})
		silent(t)
	})
}
