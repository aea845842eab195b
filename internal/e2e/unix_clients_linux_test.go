package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// Programs that talk to servers of their own making.

func TestTmuxWorks(t *testing.T) {
	need(t, "tmux")
	h := newHome(t)
	r := h.sh(`export TERM=xterm SHELL=/bin/sh; tmux -f /dev/null new-session -d -s s 'sleep 60' && tmux ls -F '#{session_name}' && ` +
		`tmux send-keys -t s x && tmux kill-server && echo done`).ok().says("s\n").says("done")
	for _, e := range r.events { // utempter, its helper, tells syslog(3) that it has no rights
		if e.Verdict.Denied() && e.Object.Socket != "AF_UNIX/SOCK_DGRAM/0" {
			t.Errorf("denied:\n%s", describe(r.events))
		}
	}
}

func TestGPGWorks(t *testing.T) {
	need(t, "gpg")
	h := newHome(t)
	script := `mkdir -m 700 gh && export GNUPGHOME=$PWD/gh &&
		gpg --batch --quiet --passphrase '' --quick-generate-key 'a <a@example.com>' default default never &&
		echo hello | gpg --batch --quiet --clearsign >signed && gpg --quiet --verify signed && gpgconf --kill all && echo done`
	h.sh(script).ok().says("done").nothingDenied()
}

func TestSSHControlMasterWorks(t *testing.T) {
	need(t, "ssh", "/usr/sbin/sshd")
	s, err := startSSH()
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t).allow("ssh.test")
	ssh := s.ssh(h, "ssh.test")
	master := strings.Join(ssh[:len(ssh)-1], " ") + " -o ControlPath=/tmp/control "
	who := ssh[len(ssh)-1]
	r := h.sh(master + "-o ControlMaster=yes -o ControlPersist=60 -f -N " + who + " && " + master + "-O check " + who + " 2>&1 && " +
		master + who + " && " + master + "-O exit " + who).ok()
	r.says("Master running").says("hello from ssh").allowed("ssh.test", 22)
	if n := internet.reached("tcp " + thereV4 + ":22"); n != 1 {
		t.Errorf("%d connections, want one for all", n)
	}
}

func TestLocalPostgresWorks(t *testing.T) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		t.Skip("postgresql is not installed")
	}
	h := newHome(t)
	script := `export PATH=` + bins[len(bins)-1] + `:$PATH LC_ALL=C PGHOST=$PWD; initdb -N -A peer -U "$(id -un)" -D /tmp/db >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
		pg_ctl -w -D /tmp/db -o "-k $PWD -c listen_addresses= -c fsync=off" -l /tmp/log start >/dev/null || { cat /tmp/log; exit 1; }
		psql -d postgres -U "$(id -un)" -Atc 'select 6*7' && pg_ctl -w -m fast -D /tmp/db stop >/dev/null && echo done`
	h.sh(script).ok().says("42\n").says("done").nothingDenied()
}

func TestNodeServersOnPathsWork(t *testing.T) {
	need(t, "node")
	h := newHome(t)
	// As tsx, vite and jest do: a server in the temporary directory, and IPC.
	h.write("work/ipc.js", `
const net = require("net"), os = require("os"), path = require("path"), { fork } = require("child_process")
if (process.send) { process.send("from the child"); return }
const at = path.join(os.tmpdir(), "node.pipe")
const server = net.createServer(c => c.end("hello")).listen(at, () =>
  net.connect(at).on("data", d => { console.log(String(d)); server.close() }))
fork(__filename).on("message", m => console.log(m))
`)
	h.run("node", "ipc.js").ok().says("hello\n").says("from the child\n").nothingDenied()
}

func TestPythonManagersWork(t *testing.T) {
	need(t, "/usr/bin/python3")
	h := newHome(t)
	h.run("/usr/bin/python3", "-c", `
from multiprocessing import Manager, get_context
if __name__ == "__main__":
    with Manager() as m:
        d = m.dict(); d["x"] = 1
        print(d["x"], "ok")
    import multiprocessing.connection as c
    l = c.Listener(family="AF_UNIX"); print(c.Client is not None, l.address.startswith("/tmp"))
`).ok().says("1 ok").says("True True").nothingDenied()
}

// Deputies of the host's, which would act for who asks.

func TestDockerIsReachedOnlyWhenListed(t *testing.T) {
	need(t, "curl")
	if os.Getuid() != 0 {
		t.Skip("only root makes a socket in /run")
	}
	const path = "/run/sallyport-e2e/docker.sock"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(path))
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	asked := 0
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		_, _ = io.WriteString(w, "docker says hello")
	}))
	h := newHome(t)
	curl := []string{"curl", "-sS", "--unix-socket", path, "http://docker/info"}
	r := h.run(curl...).refused()
	if e := r.recorded(event.UnixConnect, nil); string(e.Object.Path) != path || asked != 0 {
		t.Errorf("asked %d times\n%s", asked, describe(r.events))
	}
	h.usePolicy("network: {allowUnixSockets: [" + path + "]}\n")
	h.run(curl...).ok().says("docker says hello").nothingDenied()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestSSHAgentIsReachedOnlyWhenListed(t *testing.T) {
	need(t, "ssh-agent", "ssh-add", "ssh-keygen")
	h := newHome(t)
	sock := filepath.Join(h.mkdir(".ssh"), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", sock)
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		agent.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(h.uid), Gid: uint32(h.gid)}
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Process.Kill(); _ = agent.Wait() }()
	waitFor(t, "the agent", func() bool { _, err := os.Stat(sock); return err == nil })
	h.env = append(h.env, "SSH_AUTH_SOCK="+sock)
	list := func() *result { return h.runWith([]string{"-e", "SSH_AUTH_SOCK"}, "ssh-add", "-l") }
	if r := list(); r.code != 2 { // no agent (ssh-add(1))
		t.Errorf("exit status %d: %s%s", r.code, r.out, r.err)
	} else if e := r.recorded(event.UnixConnect, nil); string(e.Object.Path) != sock {
		t.Errorf("recorded:\n%s", describe(r.events))
	}
	h.usePolicy("network: {allowUnixSockets: [~/.ssh/agent]}\n")
	if r := list(); r.code != 1 || !strings.Contains(r.out, "no identities") {
		t.Errorf("exit status %d: %s%s", r.code, r.out, r.err)
	}
}
