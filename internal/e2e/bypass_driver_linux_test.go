package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func init() {
	helpers["bypass"] = attackOneByOne
	helpers["bypass-try"] = tryOne
}

// orders are what a driver is told to have tried.
type orders struct {
	ID  string
	Try []string
}

// attackOneByOne has a process of its own try each line of its input. So each
// attempt has an author, who can be told from all others.
func attackOneByOne() {
	fmt.Println("ready")
	for {
		var o orders
		if json.Unmarshal(readLine(), &o) != nil {
			return
		}
		child := exec.Command("/proc/self/exe", append([]string{o.ID}, o.Try...)...)
		child.Args[0] = os.Args[0]
		child.Env = append(os.Environ(), helperEnv+"=bypass-try")
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := child.Run(); err != nil {
			fmt.Printf("%q\n", err.Error())
		}
	}
}

// readLine takes not a byte more than the line: what follows is for another process.
func readLine() (line []byte) {
	for one := make([]byte, 1); ; line = append(line, one[0]) {
		if n, err := unix.Read(0, one); errors.Is(err, unix.EINTR) {
			continue
		} else if n != 1 || one[0] == '\n' {
			return line
		}
	}
}

// tryOne makes one attempt, says what came of it, and stays until it is seen.
func tryOne() {
	says := os.Stdout
	os.Stdout, _ = os.Open(os.DevNull) // attempts are talkative
	_ = json.NewEncoder(says).Encode(outcomeOf(os.Args[2:]))
	readLine()
}

// outcomeOf makes an attempt: "ok", the error's name, or what it says.
func outcomeOf(try []string) string {
	if f := attacks[try[0]]; f != nil {
		return errnoName(f(try[1:]))
	}
	if f := attempts[try[0]]; f != nil {
		if err := f(try[1:]); err != nil {
			return err.Error()
		}
		return "ok"
	}
	return "there is no attempt " + try[0]
}

// attacker is a sandbox in which attempts are made, one after the other.
type attacker struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errOut strings.Builder
	driver int // as the host sees it
}

// attacker starts a sandbox. fd is a further descriptor that it must not get.
func (h *home) attacker(flags []string, fd *os.File) *attacker {
	h.t.Helper()
	args := append([]string{"run", "--policy", h.policy, "-e", helperEnv + "=bypass"}, flags...)
	a := &attacker{t: h.t, cmd: h.command(context.Background(), append(args, "--", h.helperPath())...)}
	a.cmd.SysProcAttr.Pdeathsig = 0 // it outlives the thread that starts it
	a.cmd.Stderr, a.cmd.ExtraFiles = &a.errOut, []*os.File{fd}
	var err, outErr error
	a.in, err = a.cmd.StdinPipe()
	out, outErr := a.cmd.StdoutPipe()
	if err = errors.Join(err, outErr, a.cmd.Start()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		a.in.Close()
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	})
	a.out = bufio.NewReader(out)
	if line, err := a.out.ReadString('\n'); line != "ready\n" {
		a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		h.t.Fatalf("the driver printed %q: %v\n%s", line, err, a.errOut.String())
	}
	for pid, p := range below(processes(h.t), a.cmd.Process.Pid) {
		if p.args == h.helperPath()+" " {
			a.driver = pid
		}
	}
	if a.driver == 0 {
		h.t.Fatal("the driver is not to be seen from outside")
	}
	return a
}

// try has an attempt made, and tells by whom.
func (a *attacker) try(id string, try []string) (result string, pid int) {
	a.t.Helper()
	line, err := json.Marshal(orders{id, try})
	if err == nil {
		_, err = a.in.Write(append(line, '\n'))
	}
	if err != nil {
		a.t.Fatalf("%s: %v", id, err)
	}
	answer, err := a.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(answer, &result)
	}
	if err != nil {
		a.t.Fatalf("%s: the attempt printed %q: %v\n%s", id, answer, err, a.errOut.String())
	}
	pid = childOf(a.driver)
	if _, err := a.in.Write([]byte("\n")); err != nil {
		a.t.Fatal(err)
	}
	return result, pid
}

// childOf gives the one child of a process; 0 if there is not one.
func childOf(pid int) (child int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, f := range strings.Fields(string(b)) {
			if child != 0 {
				return 0
			}
			child, _ = strconv.Atoi(f)
		}
	}
	return child
}

// end ends the sandbox.
func (a *attacker) end() {
	a.t.Helper()
	a.in.Close()
	rest, _ := io.ReadAll(a.out)
	if err := a.cmd.Wait(); err != nil || len(rest) > 0 {
		a.t.Errorf("the driver: %v\n%s%s", err, rest, a.errOut.String())
	}
}

// tryOutside makes an attempt as this test, with all its rights, without a sandbox.
func (h *home) tryOutside(try []string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), h.helperPath(), append([]string{"outside"}, try...)...)
	cmd.Env = []string{helperEnv + "=bypass-try", "HOME=" + h.dir, "PATH=" + userPath}
	cmd.Dir = h.work
	var result string
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	if err != nil {
		return fmt.Sprintf("%v: %q", err, out)
	}
	return result
}

// topOf is the last of the ancestors that an event names.
func topOf(e event.Event) event.Process {
	if n := len(e.Ancestors); n > 0 {
		return e.Ancestors[n-1]
	}
	return event.Process{}
}
