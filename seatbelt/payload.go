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

// StartPayload starts a program in the caller's process group: what a terminal sends
// to one it sends to the other.
func StartPayload(l Launch) (*Payload, error) {
	cmd := exec.Command(l.Path, l.Args...)
	cmd.Env, cmd.Dir = l.Env, l.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.Stdin, l.Stdout, l.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Payload{cmd}, nil
}

// PID names the process, sandbox-exec's and then the command's.
func (p *Payload) PID() int { return p.cmd.Process.Pid }

// Signal sends it a signal.
func (p *Payload) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Wait gives the exit status; 128 and the signal's number if one ended it.
func (p *Payload) Wait() (int, error) { return exitStatus(p.cmd.Wait()) }
