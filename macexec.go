//go:build linux || darwin

package sallyport

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// macExec asks the supervisor of a run for another program, and hands it this
// process's streams: only the supervisor knows the profile and the proxy's
// token, and it records what the program does as it does the command's.
func macExec(sys macSystem, o ExecOptions) (int, error) {
	streams := Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr}
	streams.setDefaults()
	e, err := find(o.Sandbox)
	if err != nil {
		return statusFailed, err
	}
	f, err := e.Dial()
	if err != nil {
		return statusFailed, err
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return statusFailed, fmt.Errorf("reach sandbox %s: %w", e.ID, err)
	}
	defer conn.Close()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGPIPE)
	defer signal.Stop(signals)
	c := &macClient{sys: sys, conn: conn.(*net.UnixConn), in: json.NewDecoder(conn)}
	pid, err := c.begin(o, streams)
	if err != nil {
		return statusFailed, err
	}
	ended := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() { c.pass(signals, ended) })
	status, err := c.next()
	close(ended)
	passing.Wait()
	if err != nil { // the run has ended, and ended everything in it by this signal
		endOrphan(e, pid)
		return 128 + int(syscall.SIGKILL), nil
	}
	return status.Status, nil
}

// macClient is the side of who asked for a program.
type macClient struct {
	sys  macSystem
	conn *net.UnixConn
	in   *json.Decoder
}

// begin gives the program's number when it runs.
func (c *macClient) begin(o ExecOptions, streams Options) (pid int, err error) {
	g := &macGuest{Argv: bytesOf(o.Command), Env: bytesOf(o.Env), Dir: []byte(o.Dir)}
	fds := []int{int(streams.Stdin.Fd()), int(streams.Stdout.Fd()), int(streams.Stderr.Fd())}
	// A space, which JSON may begin with: of a long message only a part might go.
	_, _, err = c.conn.WriteMsgUnix([]byte{' '}, syscall.UnixRights(fds...), nil)
	if err == nil {
		err = json.NewEncoder(c.conn).Encode(macRequest{Exec: g})
	}
	if err != nil {
		return 0, fmt.Errorf("ask the sandbox: %w", err)
	}
	m, err := c.next()
	return m.PID, err
}

func bytesOf(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func (c *macClient) next() (macReply, error) {
	var m macReply
	if err := c.in.Decode(&m); err != nil {
		return m, errors.New("the sandbox has ended")
	}
	if m.Err != "" {
		return m, &Error{Err: errors.New(m.Err), Hint: m.Hint, Status: m.Status}
	}
	return m, nil
}

// pass passes signals on. The program leads a session, where SIGTSTP would not
// stop it (orphaned, setpgid(2)).
func (c *macClient) pass(signals <-chan os.Signal, ended <-chan struct{}) {
	out := json.NewEncoder(c.conn)
	send := func(s syscall.Signal) { _ = out.Encode(macOrder{s}) } // gone: nothing to signal
	for {
		select {
		case <-ended:
			return
		case s := <-signals:
			switch s {
			case syscall.SIGPIPE:
			case syscall.SIGTSTP:
				send(syscall.SIGSTOP)
				if err := c.sys.Stop(); err != nil {
					send(syscall.SIGCONT)
				}
			default:
				send(s.(syscall.Signal))
			}
		}
	}
}

// endOrphan ends a program whose supervisor was killed: nothing else does, here.
func endOrphan(e Running, pid int) {
	for end := time.Now().Add(clientGrace); e.Live(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return // it lives, and has ended the program itself
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // gone: nothing to end
}
