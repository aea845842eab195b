//go:build !unix

package ask

import "os/exec"

func ownGroup(*exec.Cmd) {}
