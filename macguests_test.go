//go:build linux || darwin

package sallyport

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/registry"
	"github.com/sallyport/sallyport/proxy/ask"
)

// helperVariable makes this test binary another program of the user's.
const helperVariable = "SALLYPORT_TEST_HELPER"

// macHelper is that program.
func macHelper(does string, args []string) int {
	w := &macWorld{dir: os.Getenv("HELPER_DIR"), policy: os.Getenv("HELPER_POLICY")}
	var status int
	var err error
	switch does {
	case "exec":
		status, err = macExec(w, ExecOptions{Sandbox: "trial", Command: args, Env: []string{"FROM_OUTSIDE=1"}, Dir: os.Getenv("HELPER_IN")})
	case "run":
		var result *Result
		if result, err = runMac(context.Background(), w, Options{Command: args, Dir: w.dir, Name: "trial",
			Policy: LoadOptions{Files: []string{w.policy}}}); err == nil {
			status = result.Status
		}
	case "ask":
		err = answerOne(args[0])
	}
	var e *Error
	if errors.As(asError(err), &e) {
		fmt.Fprintln(os.Stderr, err)
		status = e.Status
	}
	return status
}

// answerOne waits for a question and answers it.
func answerOne(verdict string) error {
	list := List()
	if len(list) != 1 {
		return fmt.Errorf("%d sandboxes run", len(list))
	}
	a, err := DialAsk(list[0], ask.WantAsk)
	if err != nil {
		return err
	}
	defer a.Close()
	if _, err := a.Call(ask.Message{Type: ask.TypeList}); err != nil { // answered when it is known what this one wants
		return err
	}
	fmt.Println("ready")
	for {
		m, err := a.Next()
		if err != nil {
			return err
		}
		if m.Type == ask.TypeAsk {
			r := ask.Reply{ID: m.Request.ID}
			if err := r.Verdict.UnmarshalText([]byte(verdict)); err != nil {
				return err
			}
			return a.Send(ask.Message{Type: ask.TypeAnswer, Reply: &r})
		}
	}
}

// helper makes another program of the user's.
func (w *macWorld) helper(does string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, testBinary(w.t), args...)
	cmd.Env = append(os.Environ(), helperVariable+"="+does, "HELPER_DIR="+w.dir, "HELPER_POLICY="+w.policy)
	return cmd
}

// running waits until the run is on the list.
func (w *macWorld) running() Running {
	waitUntil(w.t, func() bool { return len(List()) == 1 })
	if list := List(); len(list) == 1 {
		return list[0]
	}
	return Running{}
}

// listDir is where the list of running sandboxes is.
func listDir() string { return registryDirs()[len(registryDirs())-1] }

func statusOf(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// pidIn reads a process's number from a file that the command has written.
func (w *macWorld) pidIn(name string) int {
	var pid int
	waitUntil(w.t, func() bool {
		b, _ := os.ReadFile(filepath.Join(w.dir, name))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid > 0 && strings.HasSuffix(string(b), "\n")
	})
	return pid
}

func TestARunOnMacOSIsListedUntilItEnds(t *testing.T) {
	w := newMacWorld(t, "", "")
	w.during = func(w *macWorld) {
		defer w.done()
		e := w.running()
		if e.Name != "trial" || e.PID != os.Getpid() || e.Tier != "seatbelt" || e.Dir != ResolvePath(w.dir) ||
			!slices.Equal(e.Command, []string{"sh", "-c", untilDone}) || e.Start.IsZero() || !e.Live() {
			t.Errorf("listed %+v", e)
		}
		left := e.Leaves()
		if len(left.Files) != 2 || len(left.Processes) != 2 {
			t.Errorf("would leave %+v", left)
		}
	}
	if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(listDir(), "*")); len(List()) != 0 || len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
	if removed, err := macSweep(w); err != nil || len(removed) != 0 {
		t.Errorf("swept %v, %v", removed, err)
	}
}

func TestExecOnMacOSRunsUnderTheSameProfile(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin") // none that this user may not look into
	t.Setenv("SECRET_OF_MINE", "x")
	w := newMacWorld(t, "", "network: {allowedDomains: [ok.test]}\n")
	w.during = func(w *macWorld) {
		defer w.done()
		w.running()
		cmd := w.helper("exec", "sh", "-c", `echo "$FROM_OUTSIDE $PWD $HTTPS_PROXY"; cat; echo err >&2; exit 6`, "a b\xff")
		var errOut strings.Builder
		cmd.Stdin, cmd.Stderr = strings.NewReader("in\n"), &errOut
		out, err := cmd.Output()
		if want := fmt.Sprintf("1 %s %s\nin\n", ResolvePath(w.dir), w.env("HTTPS_PROXY")); string(out) != want || statusOf(t, err) != 6 || errOut.String() != "err\n" {
			t.Errorf("%q, want %q; %v; %q", out, want, err, errOut.String())
		}
		for command, want := range map[string]int{"no-such-command": 127, "./done-not": 127, w.dir: 126} {
			if out, err := w.helper("exec", command).CombinedOutput(); statusOf(t, err) != want {
				t.Errorf("%s: %v, want %d: %s", command, err, want, out)
			}
		}
		cmd = w.helper("exec", "true")
		cmd.Env = append(cmd.Env, "HELPER_IN=nowhere")
		if out, err := cmd.CombinedOutput(); statusOf(t, err) != 125 || !strings.Contains(string(out), "nowhere") {
			t.Errorf("in no directory: %v: %s", err, out)
		}
	}
	if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
		t.Fatal(err)
	}
	if len(w.guests) != 1 {
		t.Fatalf("%d programs were started", len(w.guests))
	}
	g := w.guests[0]
	end := slices.Index(g.Args, "--")
	if g.Path != w.launched.Path || !slices.Equal(g.Args[:end], w.launched.Args[:end]) || g.Args[len(g.Args)-1] != "a b\xff" {
		t.Errorf("started %s %q", g.Path, g.Args)
	}
	if env := strings.Join(g.Env, "\n"); strings.Contains(env, "SECRET_OF_MINE") {
		t.Errorf("the environment has what the command's has not: %s", env)
	}
}

func TestWhatAnExecedProgramTriesIsTheRunsRecord(t *testing.T) {
	w := newMacWorld(t, "", "")
	w.during = func(w *macWorld) {
		defer w.done()
		w.running()
		cmd := w.helper("exec", "sh", "-c", `echo $$ > guest; while [ ! -e seen ]; do sleep 0.01; done`)
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return
		}
		pid := w.pidIn("guest")
		w.denies(pid, "file-read-data", "/hidden/long‹…>") // cut: its process alone says whose it is
		waitUntil(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.events) > 0 })
		if err := errors.Join(os.WriteFile(filepath.Join(w.dir, "seen"), nil, 0o600), cmd.Wait()); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
		t.Fatal(err)
	}
	if len(w.events) != 1 || w.events[0].Layer != event.LayerSeatbelt {
		t.Errorf("recorded %+v", w.events)
	}
}

func TestSignalsReachAnExecedProgramOnMacOS(t *testing.T) {
	w := newMacWorld(t, "", "")
	w.during = func(w *macWorld) {
		defer w.done()
		w.running()
		cmd := w.helper("exec", "sh", "-c", `trap 'exit 42' USR1; : > ready; while :; do sleep 0.02; done`)
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return
		}
		w.waitFile("ready")
		if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Error(err)
		}
		if got := statusOf(t, cmd.Wait()); got != 42 {
			t.Errorf("exited with %d", got)
		}
	}
	if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
		t.Fatal(err)
	}
}

func TestAnExecedProgramEndsWithItsClientAndWithTheRun(t *testing.T) {
	if !haveProc() {
		t.Skip("looks for processes in /proc")
	}
	w := newMacWorld(t, "", "")
	const script = `echo $$ > %s; sleep 300`
	status := make(chan int, 1)
	w.during = func(w *macWorld) {
		defer w.done()
		w.running()
		first, second := w.helper("exec", "sh", "-c", fmt.Sprintf(script, "first")), w.helper("exec", "sh", "-c", fmt.Sprintf(script, "second"))
		if err := errors.Join(first.Start(), second.Start()); err != nil {
			t.Error(err)
			return
		}
		pid := w.pidIn("first")
		if err := first.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = first.Wait()
		waitUntil(t, func() bool { return !alive(pid) })
		w.pidIn("second")
		go func() { status <- statusOf(t, second.Wait()) }()
	}
	if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
		t.Fatal(err)
	}
	if got := <-status; got != 128+9 {
		t.Errorf("with the run it exited with %d", got)
	}
	if alive(w.pidIn("second")) {
		t.Error("the second is still there")
	}
	if _, err := macExec(w, ExecOptions{Sandbox: "trial", Command: []string{"true"}}); err == nil {
		t.Error("something ran in a sandbox that has ended")
	}
}

func TestARunOnMacOSIsStopped(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   int
	}{
		"by its own hand":   {`trap 'exit 5' TERM; : > ready; while :; do sleep 0.02; done`, 5},
		"when it would not": {`trap '' TERM; : > ready; while :; do sleep 0.02; done`, 128 + 9},
	} {
		t.Run(name, func(t *testing.T) {
			w := newMacWorld(t, "", "")
			stopped := make(chan error, 1)
			w.during = func(w *macWorld) {
				w.waitFile("ready")
				e := w.running()
				go func() { stopped <- macStop(context.Background(), w, e.ID[:4], 300*time.Millisecond) }()
			}
			result, err := w.run(context.Background(), "sh", "-c", tt.script)
			if err != nil || result.Status != tt.want {
				t.Errorf("%+v, %v", result, err)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if err := macStop(context.Background(), w, "trial", 0); err == nil {
				t.Error("stopped again")
			}
		})
	}
}

func haveProc() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// killed starts a run in another process and kills that.
func (w *macWorld) killed() (command int) {
	w.t.Helper()
	os.Remove(filepath.Join(w.dir, "command"))
	cmd := w.helper("run", "sh", "-c", `echo $$ > command; sleep 300`)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	command = w.pidIn("command")
	w.running()
	err := cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || !alive(command) || len(List()) != 0 {
		w.t.Fatalf("%v; the command lives: %v", err, alive(command))
	}
	return command
}

func TestWhatAKilledRunOnMacOSLeftIsSwept(t *testing.T) {
	if !haveProc() {
		t.Skip("looks for processes in /proc")
	}
	w := newMacWorld(t, "", "")
	command := w.killed()
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "sallyport-*"))
	if len(left) != 2 {
		t.Fatalf("left %v: the test says nothing", left)
	}
	removed, err := macSweep(w)
	if err != nil || len(removed) < 3 || !slices.Contains(removed, left[0]) || !slices.Contains(removed, left[1]) {
		t.Errorf("removed %v, %v", removed, err)
	}
	waitUntil(t, func() bool { return !alive(command) })
	if names, _ := filepath.Glob(filepath.Join(listDir(), "*")); len(names) != 0 {
		t.Errorf("still listed: %v", names)
	}
	command = w.killed()
	if _, err := w.run(context.Background(), "sh", "-c", "exit 0"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return !alive(command) })
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "sallyport-*")); len(left) != 0 {
		t.Errorf("the next run left %v", left)
	}
}

func TestASweepTouchesOnlyWhatIsTheRuns(t *testing.T) {
	if !haveProc() {
		t.Skip("looks for processes in /proc")
	}
	w := newMacWorld(t, "", "")
	mine := filepath.Join(w.dir, "sallyport-other-tmp")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "300")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	e := registry.Entry{ID: "gone", Host: registry.Here()}.Leaving(registry.Leaves{
		Files:     []string{mine, "sallyport-gone-x", w.dir, "/"},
		Processes: []registry.Proc{{PID: sleeper.Process.Pid, Start: 1}, {PID: sleeper.Process.Pid}, {PID: 1, Start: 5}, {PID: -1, Start: 5}},
	})
	if removed, err := clearLeft(w, e); err != nil || len(removed) != 0 {
		t.Errorf("%v, %v", removed, err)
	}
	if _, err := os.Stat(mine); err != nil || !alive(sleeper.Process.Pid) {
		t.Errorf("another's was touched: %v", err)
	}
}

func TestQuestionsOfARunOnMacOSAreAnsweredFromOutside(t *testing.T) {
	for verdict, want := range map[string]event.Verdict{"deny": event.AskDenied, "allow": event.AskAllowed} {
		w := newMacWorld(t, "", "ask: {via: [socket]}\n")
		w.during = func(w *macWorld) {
			defer w.done()
			w.running()
			cmd := w.helper("ask", verdict)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err = errors.Join(err, cmd.Start()); err != nil {
				t.Error(err)
				return
			}
			if ready := make([]byte, 6); !readFull(t, out, ready) {
				return
			}
			at, err := url.Parse(w.env("HTTPS_PROXY"))
			if err != nil {
				t.Error(err)
				return
			}
			connectStatus(t, at.Host, "asked.test:443", at.User.String())
			if err := cmd.Wait(); err != nil {
				t.Errorf("who was asked: %v", err)
			}
		}
		if _, err := w.run(context.Background(), "sh", "-c", untilDone); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(w.events, func(e event.Event) bool { return e.Verdict == want && e.Object.Host == "asked.test" }) {
			t.Errorf("%s: %+v", verdict, w.events)
		}
	}
}
