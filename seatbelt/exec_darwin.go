package seatbelt

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// System is macOS.
type System struct{}

// Start gives the program a process group of its own, so that an interrupt at
// the terminal does not end the log before the run.
func (System) Start(c Command) (Process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = c.Env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return StartProcess(cmd)
}

// Launch starts a program for the user.
func (System) Launch(l Launch) (*Payload, error) { return StartPayload(l) }

// Processes lists the user's.
func (System) Processes() ([]Proc, error) {
	list, err := unix.SysctlKinfoProcSlice("kern.proc.uid", unix.Getuid())
	if err != nil {
		return nil, err
	}
	out := make([]Proc, 0, len(list))
	for _, p := range list {
		start := p.Proc.P_starttime
		out = append(out, Proc{PID: int(p.Proc.P_pid), Parent: int(p.Eproc.Ppid), Start: start.Sec*1_000_000 + int64(start.Usec)})
	}
	return out, nil
}

// Kill ends a process.
func (System) Kill(p Proc) error { return unix.Kill(p.PID, unix.SIGKILL) }

// Stop stops this process, as Ctrl-Z does.
func (System) Stop() error { return unix.Kill(unix.Getpid(), unix.SIGSTOP) }

// BootID names the time since the system was started.
func (System) BootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
