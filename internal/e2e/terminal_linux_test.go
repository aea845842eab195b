package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screen is a terminal with somebody in front of it.
type screen struct {
	t             *testing.T
	master, slave *os.File
	found         unix.Termios // its settings before anything ran
	cmd           *exec.Cmd
	ended         chan struct{}

	mu   sync.Mutex
	shot []byte // everything that it has shown
	seen int    // how much of that has been waited for
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlZ = "\x1a"
)

// newScreen makes a terminal of 24 lines and 80 columns.
func (h *home) newScreen() *screen {
	h.t.Helper()
	s := &screen{t: h.t, ended: make(chan struct{})}
	master, slave := openPTY(h.t)
	s.master, s.slave = closable(h.t, master), slave
	if err := os.Chown(s.slave.Name(), h.uid, h.gid); err != nil && os.Getuid() == 0 {
		h.t.Fatal(err)
	}
	s.resize(24, 80)
	s.found = s.mode()
	go s.watch()
	return s
}

// closable gives a descriptor that is closed even while it is read.
func closable(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *screen) watch() {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.shot = append(s.shot, buf[:n]...)
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) resize(lines, columns uint16) {
	s.t.Helper()
	if err := unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) mode() unix.Termios {
	s.t.Helper()
	m, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *m
}

// start starts a program as the one that a terminal belongs to.
func (s *screen) start(cmd *exec.Cmd) *screen {
	s.t.Helper()
	if cmd.Stdin == nil {
		cmd.Stdin = s.slave
	}
	if cmd.Stdout == nil {
		cmd.Stdout = s.slave
	}
	if cmd.Stderr == nil {
		cmd.Stderr = s.slave
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	for i, f := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if f == s.slave {
			cmd.SysProcAttr.Ctty = i
		}
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	go func() { _ = cmd.Wait(); close(s.ended) }()
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); <-s.ended })
	return s
}

// onScreen starts a command in a sandbox, on a terminal.
func (h *home) onScreen(argv ...string) *screen {
	h.t.Helper()
	return h.newScreen().start(h.command(context.Background(), h.runArgs(argv...)...))
}

// shellOnScreen starts an interactive shell outside, in which sp is sallyport
// run.
func (h *home) shellOnScreen() *screen {
	h.t.Helper()
	need(h.t, "bash")
	rc := h.write("bashrc", fmt.Sprintf("PS1='ready$ '; alias sp='%s'\n", strings.Join(append([]string{binary}, h.runArgs()...), " ")))
	s := h.newScreen().start(h.program(context.Background(), "/bin/bash", "--noprofile", "--rcfile", rc, "-i"))
	return s.wants("ready$ ")
}

func (h *home) runArgs(argv ...string) []string {
	args := []string{"run"}
	if h.policy != "" {
		args = append(args, "--policy", h.policy)
	}
	return append(append(args, "--"), argv...)
}

// types types, as fast as a program would.
func (s *screen) types(text string) *screen {
	s.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// wants waits until a text is shown that was not waited for before.
func (s *screen) wants(text string) *screen {
	s.t.Helper()
	for end := time.Now().Add(slow); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		at := bytes.Index(s.shot[s.seen:], []byte(text))
		if at >= 0 {
			s.seen += at + len(text)
		}
		s.mu.Unlock()
		if at >= 0 {
			return s
		}
	}
	s.t.Fatalf("%q is not shown:\n%q", text, s.text())
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.shot)
}

// exits waits for the end of what runs on the terminal, and wants a status and
// the terminal's settings as they were.
func (s *screen) exits(want int) *screen {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(slow):
		s.t.Fatalf("it does not end:\n%q", s.text())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		s.t.Errorf("exit status %d, want %d:\n%q", got, want, s.text())
	}
	return s.asFound()
}

func (s *screen) asFound() *screen {
	s.t.Helper()
	if now := s.mode(); now != s.found {
		s.t.Errorf("the terminal is left as %+v, was %+v", now, s.found)
	}
	return s
}

// until waits for a condition.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(slow); !yes(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

func TestACommandOnATerminalHasOneOfItsOwn(t *testing.T) {
	h := newHome(t)
	s := h.onScreen("sh", "-c", `tty; ls -l /dev/console 2>&1; for fd in 0 1 2; do readlink /proc/self/fd/$fd; done
		echo by name >/dev/tty; echo again >/dev/stderr; ps -o tpgid= -p $$ | tr -d ' ' | sed "s/^$$\$/in front/"`)
	s.wants("/dev/pts/0\r\n").wants("No such file").wants("/dev/pts/0\r\n/dev/pts/0\r\n/dev/pts/0\r\n")
	s.wants("by name\r\nagain\r\nin front\r\n").exits(0)
	if name := s.slave.Name(); name != "/dev/pts/0" && strings.Contains(s.text(), name) {
		t.Errorf("the caller's %s is seen inside:\n%s", name, s.text())
	}
}

func TestTheCallersTerminalCannotBeSetFromInside(t *testing.T) {
	h := newHome(t)
	s := h.onScreen("sh", "-c", "stty 9600 cols 7 rows 3 intr ^G; stty size speed; echo set; read x; echo $x")
	s.wants("set\r\n") // or what is typed is shown in the middle of it
	if size, err := unix.IoctlGetWinsize(int(s.slave.Fd()), unix.TIOCGWINSZ); err != nil || size.Col != 80 {
		t.Errorf("size outside: %+v, %v", size, err)
	}
	if now := s.mode(); now.Cc[unix.VINTR] != s.found.Cc[unix.VINTR] || now.Cflag&unix.CBAUD != s.found.Cflag&unix.CBAUD {
		t.Errorf("the terminal is set to %+v", now)
	}
	s.types("typed\r").wants("typed\r\ntyped\r\n").exits(0)
}

func TestTheTerminalsSizeIsTheCallers(t *testing.T) {
	h := newHome(t)
	s := h.onScreen("bash", "-c", "stty size; trap 'stty size; exit 5' WINCH; echo set; while :; do sleep 0.05; done")
	s.wants("24 80\r\nset")
	s.resize(50, 132)
	s.wants("50 132").exits(5)
}

func TestKeysThatSignalDoSoInside(t *testing.T) {
	h := newHome(t)
	h.onScreen("sh", "-c", "echo up; exec sleep 600").wants("up\r\n").types(ctrlC).exits(130)
	h.onScreen("sh", "-c", "trap 'echo caught; exit 4' INT; echo up; while :; do sleep 0.05; done").wants("up\r\n").types(ctrlC).wants("^Ccaught").exits(4)
	h.onScreen("sh", "-c", "echo up; exec sleep 600").wants("up\r\n").types("\x1c").exits(131)
	h.onScreen("sh", "-c", "echo up; cat; echo over").wants("up\r\n").types("line\r" + ctrlD).wants("line\r\nline\r\nover").exits(0)
}

func TestTheTerminalIsRestoredHoweverTheRunEnds(t *testing.T) {
	h := newHome(t)
	const up = "stty raw -echo; echo up; exec sleep 600"
	for name, end := range map[string]struct {
		script string
		how    func(s *screen)
		status int
	}{
		"the payload kills itself": {"stty raw; kill -KILL $$", func(*screen) {}, 137},
		"SIGKILL of the payload":   {up, func(s *screen) { killNamed(t, s, "sleep 600") }, 137},
		"SIGKILL of stage 2":       {up, func(s *screen) { killNamed(t, s, "/run/sallyport/init") }, 125},
		"SIGTERM of sallyport":     {up, func(s *screen) { s.signal(syscall.SIGTERM) }, 143},
		"SIGINT of sallyport":      {up, func(s *screen) { s.signal(syscall.SIGINT) }, 130},
		"not found":                {"exec no-such-program", func(*screen) {}, 127},
	} {
		t.Run(name, func(t *testing.T) {
			s := h.onScreen("sh", "-c", end.script)
			if end.script == up {
				s.wants("up") // which may be shown before sallyport has made the terminal raw
				until(t, "the terminal is raw while the command has it", func() bool { return s.mode() != s.found })
			}
			end.how(s)
			s.exits(end.status)
		})
	}
	h.newScreen().start(h.command(context.Background(), "run", "--", "no-such-program")).exits(127)
}

func (s *screen) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// killNamed kills the one process of a run with these arguments.
func killNamed(t *testing.T, s *screen, args string) {
	t.Helper()
	for end := time.Now().Add(10 * soon()); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // a shell says so before it executes it
		for pid, p := range below(processes(t), s.cmd.Process.Pid) {
			if strings.HasPrefix(strings.TrimSpace(p.args), args) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatalf("no process %q", args)
}

func TestNothingGoesOnAfterACommandOnATerminal(t *testing.T) {
	h := newHome(t)
	before := descendants(t)
	h.onScreen("bash", "-c", "sleep 601 & nohup sleep 602 >/dev/null 2>&1 & setsid sleep 603 & disown -a; echo left").wants("left").exits(0)
	h.nothingLeft(before)
}

func TestALostTerminalHangsTheCommandUp(t *testing.T) {
	h := newHome(t)
	before := descendants(t)
	mark := h.dir + "/work/hung-up"
	s := h.onScreen("sh", "-c", "trap 'echo yes >"+mark+"; exit' HUP; echo up; while :; do sleep 0.05; done")
	s.wants("up")
	s.slave.Close()
	s.master.Close()
	select {
	case <-s.ended:
	case <-time.After(slow):
		t.Fatal("it goes on")
	}
	if got := h.read("work/hung-up"); got != "yes\n" {
		t.Errorf("the command was not told: %q", got)
	}
	h.nothingLeft(before)
}
