//go:build !linux

package vm

import "syscall"

// DieWithParent asks for nothing: test VMs are run on Linux.
func DieWithParent() *syscall.SysProcAttr { return nil }
