package seatbelt

import (
	"os/exec"
	"syscall"
)

// System starts programs of macOS.
type System struct{}

// Start gives the program a process group of its own, so that an interrupt at
// the terminal does not end the log before the run.
func (System) Start(c Command) (Process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = c.Env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return startProcess(cmd)
}
