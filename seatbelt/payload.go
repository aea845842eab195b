package seatbelt

import (
	"os"
	"os/exec"
	"syscall"
)

// Launch is a program to start for the user, with the user's streams.
type Launch struct {
	Path                  string
	Args, Env             []string
	Dir                   string
	Stdin, Stdout, Stderr *os.File
}

// Payload is a program that was launched.
type Payload struct{ cmd *exec.Cmd }

// StartPayload starts a program in a session of its own: of the caller's
// terminal it has the streams, but it is not its controlling one, or it could
// type into it what the user's shell would read next (TIOCSTI, tty(4)). What
// the terminal sends reaches the caller alone, which has to pass it on.
func StartPayload(l Launch) (*Payload, error) {
	cmd := exec.Command(l.Path, l.Args...)
	cmd.Env, cmd.Dir = l.Env, l.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.Stdin, l.Stdout, l.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Payload{cmd}, nil
}

// PID names the process, sandbox-exec's and then the command's.
func (p *Payload) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to it and to what it has in its process group, as a
// terminal would.
func (p *Payload) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		return err // ended: its number may be another's by now
	}
	return syscall.Kill(-p.PID(), s)
}

// Wait gives the exit status; 128 and the signal's number if one ended it.
func (p *Payload) Wait() (int, error) { return exitStatus(p.cmd.Wait()) }
