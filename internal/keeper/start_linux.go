package keeper

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a keeper, as root, for a supervisor of this user, and gives the
// supervisor's end of the socket, which closes on exec.
func Start(uid, gid int) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the keeper's socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "keeper"), os.NewFile(uintptr(fds[1]), "supervisor")
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	defer null.Close()
	exe, err := os.Executable()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("find this program: %w", err)
	}
	// In a session of its own: what is typed to end the run is not for it.
	_, err = syscall.ForkExec(exe, []string{Name, strconv.Itoa(uid), strconv.Itoa(gid)}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"PATH=/usr/bin:/bin"},
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), theirs.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	return ours, nil
}

// Hand makes the supervisor's end survive the next exec of this process, and
// gives the environment entry by which Inherited finds it there.
func Hand(f *os.File) (string, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 3)
	if err != nil {
		return "", fmt.Errorf("hand on the keeper's socket: %w", err)
	}
	return fmt.Sprintf("%s=%d", Env, fd), nil
}

// Inherited takes over the socket that the environment names, nil if it names
// none. It is nobody else's from then on.
func Inherited() (*os.File, error) {
	v := os.Getenv(Env)
	if v == "" {
		return nil, nil
	}
	os.Unsetenv(Env)
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("use %s=%q: not a descriptor", Env, v)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "keeper"), nil
}

// Init turns this process into a keeper if it was started as one; then it does
// not return.
func Init() {
	if len(os.Args) != 3 || os.Args[0] != Name {
		return
	}
	uid, err1 := strconv.Atoi(os.Args[1])
	gid, err2 := strconv.Atoi(os.Args[2])
	conn, err := unixConn(os.NewFile(3, "supervisor"))
	if err != nil || err1 != nil || err2 != nil {
		os.Exit(125)
	}
	if err := serve(conn, uid, gid); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}
