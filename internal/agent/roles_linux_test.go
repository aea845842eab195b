package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// targetRole stands where the stages stand: what it does itself is not recorded. On
// the first order that is not to make a folder it starts a payload, and passes
// orders on.
func targetRole() {
	fmt.Println("here")
	in := bufio.NewScanner(os.Stdin)
	var payload io.Writer
	for in.Scan() {
		if name, ok := strings.CutPrefix(in.Text(), "make 0 "); ok && payload == nil {
			fmt.Println(unix.Mkdirat(unix.AT_FDCWD, name, 0o700))
			continue
		}
		if payload == nil {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{roleVariable + "=payload", "GOMAXPROCS=1"}
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			cmd.ExtraFiles = []*os.File{os.NewFile(3, "pair")}
			var err error
			if payload, err = cmd.StdinPipe(); err == nil {
				err = cmd.Start()
			}
			if err != nil {
				fmt.Println(err)
				return
			}
		}
		fmt.Fprintln(payload, in.Text())
	}
}

// payloadRole stands where the payload stands.
func payloadRole() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var op, text string
		var n int
		fmt.Sscan(in.Text(), &op, &n, &text)
		switch op {
		case "refused": // datagrams: sendmsg is the cgroup program's to refuse
			fmt.Println(refusedDatagrams(n))
		case "hidden": // files: what the mounts and permissions refuse is recorded
			for i := range n {
				_, _ = os.Open(fmt.Sprintf("%s/%d", text, i))
			}
			fmt.Println("done")
		case "make": // a folder
			fmt.Println(unix.Mkdirat(unix.AT_FDCWD, text, 0o700))
		case "speak":
			b, _ := json.Marshal(speakHanded(text))
			fmt.Println(string(b))
		case "hold": // a connection
			c, err := net.Dial("tcp", text)
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println(c.LocalAddr())
		}
	}
}

// speakHanded makes requests on a connection that was handed over.
func speakHanded(nonce string) string {
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(3, make([]byte, 1), oob, 0)
	if err != nil {
		return err.Error()
	}
	_, fds, _ := parseControl(oob[:n])
	c, err := net.FileConn(os.NewFile(uintptr(fds[0]), "handed"))
	if err != nil {
		return err.Error()
	}
	var packets []string
	for _, r := range requests(1) {
		packets = append(packets, "\x00"+r, "\x00"+withNonce(r, nonce))
	}
	said, err := speak(c, packets, 300*time.Millisecond)
	if err != nil {
		return err.Error()
	}
	return said
}

// made counts datagrams: each is to a destination of its own, so that none is a
// repeat of another.
var made int

func refusedDatagrams(n int) (refused int) {
	for range n {
		made++
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1
		}
		if unix.Connect(fd, &unix.SockaddrInet4{Port: 1000 + made%60000, Addr: [4]byte{192, 0, 2, byte(made / 60000)}}) == unix.EPERM {
			refused++
		}
		unix.Close(fd)
	}
	return refused
}

// agentRole is an agent in a process of its own, so that it can be killed.
func agentRole() {
	s, err := New(Options{StateDir: os.Getenv("AGENT_TEST_STATE"), Ceiling: "/nonexistent", Version: "test",
		Warn: func(text string) { fmt.Fprintln(os.Stderr, "agent:", text) }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := Listen(os.Getenv("AGENT_TEST_SOCKET"))
	if err == nil {
		err = Drop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() { <-signals; l.Close() }()
	fmt.Println("ready")
	if err := errors.Join(s.Serve(l), s.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
