package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// userRole takes orders on its standard input.
func userRole() {
	st := &userState{path: os.Getenv("AGENT_TEST_SOCKET")}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 4<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var o order
		r := result{}
		err := json.Unmarshal(in.Bytes(), &o)
		if err == nil {
			err = st.obey(o, &r)
		}
		if err != nil {
			r.Err = err.Error()
		}
		if err := out.Encode(r); err != nil {
			os.Exit(1)
		}
	}
}

type userState struct {
	path    string
	target  *exec.Cmd
	tell    io.Writer
	told    *bufio.Reader
	pair    int // to hand the target a descriptor
	box     *Sandbox
	mu      sync.Mutex
	events  []event.Event
	returns int
}

func (u *userState) obey(o order, r *result) (err error) {
	switch o.Op {
	case "target":
		err = u.spawn()
	case "register":
		err = u.register(o, r)
	case "start":
		err = u.box.Start()
	case "refused", "hidden", "hold", "make":
		r.Text, err = u.command(fmt.Sprintf("%s %d %s", o.Op, o.N, o.Text))
	case "report":
		for i := range o.N {
			err = errors.Join(err, u.box.Append(event.Event{Layer: event.LayerProxy, Operation: event.NetConnect,
				Reason: event.NotAllowed, Rule: "builtin:default-deny", Count: 1, Sandbox: event.Sandbox{ID: "forged"},
				Object: event.Object{Host: event.Text(fmt.Sprintf("%s%d.example", o.Text, i)), Port: 443, Proto: "tcp"}}))
		}
	case "update":
		r.Text, err = u.box.Update(Update{Files: []PolicyFile{{Name: "update", Data: []byte(o.Text)}}})
	case "traffic":
		if !u.box.Traffic(event.Traffic{Open: int64(o.N), BytesIn: uint64(o.N), Starts: map[event.Start]uint64{event.Started: 99}}) {
			err = errors.New("not sent")
		}
	case "settle":
		r.Left = len(u.box.Settle(20 * time.Second))
	case "process":
		p, ancestors := u.box.ProcessOf(o.Conn)
		if p != nil {
			r.Processes = append(append(r.Processes, *p), ancestors...)
		}
	case "events":
		u.mu.Lock()
		r.Events, r.Returns = append(r.Events, u.events...), u.returns
		u.mu.Unlock()
	case "end":
		u.killTarget()
		r.Ended, err = u.box.End()
		u.box.Close()
	case "close":
		u.box.Close()
	case "status":
		var st *Status
		if st, err = Ask(u.path); err == nil {
			r.Text, r.Left = st.Tier.String(), st.Sandboxes
		}
	case "open":
		_, err = Logs(u.path).Open(o.Text)
	case "logs":
		err = u.logs(r)
	case "request":
		r.Text, err = u.request(o.Text)
	case "early": // a payload that is there before the sandbox
		if err = u.spawn(); err == nil {
			_, err = u.command("refused 0 x")
		}
	case "many":
		err = u.many(o.N)
	case "hand":
		r.Text, err = u.hand(o.N == 0)
	case "attack":
		r.Text, err = u.attack(o.Text)
	case "fork": // a child that is no target
		cmd := exec.Command("/bin/sleep", "60")
		if err = cmd.Start(); err == nil {
			r.PID = cmd.Process.Pid
		}
	}
	if u.target != nil && u.target.Process != nil {
		if r.PID == 0 {
			r.PID = u.target.Process.Pid
		}
	}
	return err
}

// spawn starts a child as stage 1 is: first of a pid namespace, in a user
// namespace of its own.
func (u *userState) spawn() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleVariable + "=target", "GOMAXPROCS=1"}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	uid, gid := os.Getuid(), os.Getgid()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "pair")
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs}
	u.pair = pair[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	u.target, u.tell, u.told = cmd, in, bufio.NewReader(out)
	_, err = u.told.ReadString('\n')
	return err
}

func (u *userState) command(line string) (string, error) {
	if _, err := io.WriteString(u.tell, line+"\n"); err != nil {
		return "", err
	}
	answer, err := u.told.ReadString('\n')
	return strings.TrimSpace(answer), err
}

func (u *userState) killTarget() {
	if u.target != nil {
		_ = u.target.Process.Kill()
		_ = u.target.Wait() // killed
		u.target = nil
	}
}

func (u *userState) register(o order, r *result) error {
	if u.target == nil && o.PID == 0 {
		if err := u.spawn(); err != nil {
			return err
		}
	}
	reg := Registration{ID: newID(), Name: o.Name, PID: o.PID, Env: testEnv, Canary: o.Canary}
	if o.PID == 0 {
		reg.PID = u.target.Process.Pid
	}
	if o.Policy != "" {
		reg.Files = []PolicyFile{{Name: "policy.yaml", Data: []byte(o.Policy)}}
	}
	box, err := register(u.path, reg, Handler{
		Event: func(e event.Event, _ string) { u.mu.Lock(); defer u.mu.Unlock(); u.events = append(u.events, e) },
		Back:  func(time.Duration) { u.mu.Lock(); defer u.mu.Unlock(); u.returns++ },
	})
	if err != nil {
		return err
	}
	u.box, r.ID = box, box.ID
	return nil
}

func register(path string, r Registration, h Handler) (*Sandbox, error) {
	c, err := Reach(path)
	if err != nil {
		return nil, err
	}
	box, err := c.Register(r, h)
	if err != nil {
		c.Close()
	}
	return box, err
}

var testEnv = policy.Env{Home: "/home/test", Cwd: "/home/test/work", Exe: "/usr/bin/sallyport"}

func (u *userState) logs(r *result) error {
	src := Logs(u.path)
	files, _, err := src.List()
	if err != nil {
		return err
	}
	for _, entry := range files {
		r.Names = append(r.Names, entry.Name())
		f, err := src.Open(entry.Name())
		if err != nil {
			return err
		}
		for e, err := range audit.Read(f, entry.Name()) {
			if err != nil {
				return err
			}
			r.Events = append(r.Events, e)
		}
		if _, err := f.Write([]byte("x")); err == nil {
			return errors.New("the log can be written to")
		}
		if again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0); err == nil && os.Getuid() != 0 {
			again.Close()
			return errors.New("the log can be opened again for writing")
		}
		f.Close()
	}
	return nil
}

// request makes one request on a connection of its own, and gives the answer.
func (u *userState) request(text string) (string, error) {
	c, nonce, err := u.heard()
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x00" + withNonce(text, nonce))); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(answerLimit))
	m, err := newReceiver(c).next()
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(m.message)
	return string(b), err
}

// many makes sandboxes of children that do nothing.
func (u *userState) many(n int) error {
	uid, gid := os.Getuid(), os.Getgid()
	for range n {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}}
		if err := cmd.Start(); err != nil {
			return err
		}
		box, err := register(u.path, Registration{ID: newID(), PID: cmd.Process.Pid, Env: testEnv}, Handler{})
		if err == nil {
			err = box.Start()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attack sends packets, one a line of text, after the greeting was heard, and gives
// what comes back until it is silent.
func (u *userState) attack(text string) (string, error) {
	c, nonce, err := u.heard()
	if err != nil {
		return "", nil // too many connections
	}
	defer c.Close()
	var packets []string
	for _, p := range strings.Split(text, "\n") {
		packets = append(packets, withNonce(p, nonce))
	}
	return speak(c, packets, 10*time.Millisecond)
}

// heard is a connection whose greeting was heard, and the greeting's nonce.
func (u *userState) heard() (*net.UnixConn, string, error) {
	c, err := connect(u.path)
	if err != nil {
		return nil, "", err
	}
	m, err := newReceiver(c).next()
	if err != nil || m.Greeting == nil {
		c.Close()
		return nil, "", errors.Join(errors.New("no greeting"), err)
	}
	return c, m.Greeting.Nonce, nil
}

// withNonce puts the nonce into what is still JSON.
func withNonce(request, nonce string) string {
	return strings.Replace(request, `{"id":`, `{"nonce":"`+nonce+`","id":`, 1)
}

// hand gives the target a connection: the sandbox's own, or a new one that has
// heard its greeting.
func (u *userState) hand(own bool) (string, error) {
	l := u.box.link
	if !own {
		var err error
		if l, err = dial(u.path, func(message) {}); err != nil {
			return "", err
		}
		defer l.close()
	}
	err := onFD(l.conn, func(fd int) error { return unix.Sendmsg(u.pair, []byte{1}, unix.UnixRights(fd), nil, 0) })
	if err != nil {
		return "", err
	}
	answer, err := u.command("speak 0 " + l.nonce)
	var text string
	return text, errors.Join(err, json.Unmarshal([]byte(answer), &text))
}

func speak(c net.Conn, packets []string, wait time.Duration) (string, error) {
	for _, p := range packets {
		if _, err := c.Write([]byte(p)); err != nil {
			break
		}
	}
	var said strings.Builder
	buf := make([]byte, 64<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(buf)
		if err != nil {
			return said.String(), nil
		}
		said.Write(buf[1:n])
		said.WriteByte('\n')
	}
}
