package seatbelt

import (
	"errors"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// maxErrors bounds how much of a program's standard error is kept.
const maxErrors = 4096

// process is a Process of os/exec.
type process struct {
	cmd    *exec.Cmd
	out    io.ReadCloser
	errors headBuffer
	once   sync.Once
	code   int
	err    error
}

// StartProcess is for those who implement Exec: it starts a command whose
// standard output and error are not set yet.
func StartProcess(cmd *exec.Cmd) (Process, error) {
	p := &process{cmd: cmd}
	cmd.Stderr = &p.errors
	var err error
	if p.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) PID() int          { return p.cmd.Process.Pid }
func (p *process) Output() io.Reader { return p.out }
func (p *process) Errors() string    { return p.errors.String() }
func (p *process) Terminate() error  { return p.cmd.Process.Signal(syscall.SIGTERM) }
func (p *process) Kill() error       { return p.cmd.Process.Kill() }

func (p *process) Wait() (int, error) {
	p.once.Do(func() { p.code, p.err = exitStatus(p.cmd.Wait()) })
	return p.code, p.err
}

// exitStatus turns what os/exec says of an end into a shell's number.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// headBuffer keeps the beginning of what is written to it.
type headBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (h *headBuffer) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), maxErrors-len(h.b))]...)
	return len(p), nil
}

func (h *headBuffer) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.b)
}
