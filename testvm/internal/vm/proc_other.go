//go:build !linux

package vm

import "syscall"

// dieWithParent asks for nothing: test VMs are run on Linux.
func dieWithParent() *syscall.SysProcAttr { return nil }
