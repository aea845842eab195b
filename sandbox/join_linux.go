package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox/stage2"
)

// JoinConfig is a program to start in a running sandbox.
type JoinConfig struct {
	Argv []string
	Env  []string // "NAME=VALUE", added to the payload's
	Dir  string   // as it is named inside; default: the payload's
	// Stdin, Stdout and Stderr become the program's. They must be set.
	Stdin, Stdout, Stderr *os.File
}

// guest is the client's side of a program that has joined a sandbox.
type guest struct {
	conn    *os.File
	rights  *stage2.Rights
	in      *json.Decoder
	sending sync.Mutex
	term    *terminal
	relay   *relay
}

// Kill ends the payload of the sandbox that serves the connection.
func Kill(conn *os.File) error { return json.NewEncoder(conn).Encode(request{Kill: true}) }

// Join starts a program in the sandbox that serves the connection, and returns
// when it has ended. Signals that this process gets meanwhile are the
// program's; so are its terminal's keys, if a stream is one.
func Join(conn *os.File, cfg JoinConfig) (ExitStatus, error) {
	g := &guest{conn: conn, rights: stage2.NewRights(conn)}
	g.in = json.NewDecoder(g.rights)
	defer g.close()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT, unix.SIGPIPE)
	defer signal.Stop(signals)
	if err := g.start(cfg); err != nil {
		return ExitStatus{}, err
	}
	done := make(chan struct{})
	var forwarding sync.WaitGroup
	forwarding.Go(func() { g.forward(signals, done) })
	m, err := g.next()
	close(done)
	forwarding.Wait()
	g.finish()
	if err != nil || m.Exit == nil { // the sandbox has ended, and everything in it by this signal
		return ExitStatus{Code: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL)}, nil
	}
	return *m.Exit, nil
}

// start asks for the program, and returns when it runs.
func (g *guest) start(cfg JoinConfig) error {
	var s Sandbox // for the streams alone
	stdio, err := s.stdio(Config{Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr})
	g.relay = s.relay
	if err != nil {
		return err
	}
	null, err := s.standIn(&stdio)
	g.term = s.term
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range null {
			f.Close()
		}
	}()
	r := request{Join: &joinRequest{Argv: cfg.Argv, Env: cfg.Env, Dir: stage2.Raw(cfg.Dir), PTY: g.term.config()}}
	if err := stage2.SendWith(g.conn, r, int(stdio[0].Fd()), int(stdio[1].Fd()), int(stdio[2].Fd())); err != nil {
		return fmt.Errorf("ask the sandbox: %w", err)
	}
	if _, err := g.next(); err != nil {
		return err
	}
	if err := g.term.adopt(g.rights.Take()); err != nil {
		return err
	}
	g.relay.start()
	if err := g.term.start(g.hangUp); err != nil {
		return err
	}
	if g.term != nil {
		g.term.resize() // of a change since
	}
	return nil
}

func (g *guest) next() (stage2.Message, error) {
	var m stage2.Message
	if err := g.in.Decode(&m); err != nil {
		return m, errors.New("the sandbox has ended")
	}
	if m.Err != "" {
		return m, &Error{Err: errors.New(m.Err), Hint: m.Hint, Status: m.Code}
	}
	return m, nil
}

func (g *guest) signal(sig syscall.Signal) {
	g.sending.Lock()
	defer g.sending.Unlock()
	_ = json.NewEncoder(g.conn).Encode(stage2.Command{Signal: int(sig)}) // gone: nothing to signal
}

func (g *guest) hangUp() {
	g.signal(unix.SIGHUP)
	g.signal(unix.SIGCONT)
}

func (g *guest) forward(signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig := <-signals:
			switch sig {
			case unix.SIGPIPE:
			case unix.SIGWINCH:
				if g.term != nil {
					g.term.resize()
				}
			case unix.SIGTSTP:
				g.stop()
			case unix.SIGCONT:
				g.resume()
			default:
				g.signal(sig.(syscall.Signal))
			}
		}
	}
}

// stop stops the program and this process. The program leads a session, so that
// its terminal's own Ctrl-Z, and SIGTSTP, do nothing to it (setpgid(2)).
func (g *guest) stop() {
	g.signal(unix.SIGSTOP)
	g.term.give()
	_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
}

func (g *guest) resume() {
	if g.term != nil {
		g.term.resize()
		if g.term.eager && g.term.foreground() {
			_ = g.term.take() // gone: nothing to read
		}
	}
	g.signal(unix.SIGCONT)
}

// finish shows what the program has written. What it has left running may have
// its terminal open still, and is not waited for.
func (g *guest) finish() {
	g.relay.wait()
	if g.term == nil {
		return
	}
	g.term.settle()
	_ = g.term.master.SetReadDeadline(time.Unix(1, 0))
	g.term.wait()
}

func (g *guest) close() {
	g.term.close()
	g.relay.close()
	g.rights.Close()
	g.conn.Close()
}
