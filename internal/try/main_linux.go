package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// worldEnv tells the program that it is in its world already, and names the
// directory for everything that it makes.
const worldEnv = "SALLYPORT_TRY_WORLD"

func main() {
	bin := flag.String("bin", "bin/sallyport", "the `BINARY` to show")
	flag.Parse()
	runtime.LockOSThread() // Pdeathsig and capabilities belong to a thread
	var err error
	if dir := os.Getenv(worldEnv); dir == "" {
		err = enterWorld()
	} else {
		err = inWorld(dir, *bin)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode()) // it has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "try: error:", err)
		os.Exit(1)
	}
}

// enterWorld runs this program again with a network and mounts of its own; an
// ordinary user needs a user namespace for that.
func enterWorld() error {
	// Not below /tmp, which a sandbox has for itself.
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), worldEnv+"="+dir)
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	cmd.SysProcAttr = attr
	err = cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		return fmt.Errorf("make namespaces (does this machine let you? see 'sallyport doctor'): %w", err)
	}
	return err
}

func inWorld(dir, bin string) error {
	if err := makeWorld(dir); err != nil {
		return err
	}
	net, err := startInternet()
	if err != nil {
		return err
	}
	// What follows has no more power than the user has.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	s, err := newShow(dir, bin, net)
	if err != nil {
		return err
	}
	return s.play()
}
