package vm

import "syscall"

// DieWithParent makes the kernel kill a child when its parent's thread is gone.
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
