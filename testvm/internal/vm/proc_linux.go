package vm

import "syscall"

// dieWithParent makes the kernel kill a child when its parent's thread is gone.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
