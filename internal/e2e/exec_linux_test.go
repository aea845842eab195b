package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// listed is what ps says of a sandbox.
type listed struct {
	ID, Name, Dir, Tier string
	PID                 int
	Start               time.Time
	Command             []string
}

func (h *home) ps() []listed {
	h.t.Helper()
	var all []listed
	dec := json.NewDecoder(strings.NewReader(h.sallyport("ps", "-o", "json").ok().out))
	for dec.More() {
		var l listed
		if err := dec.Decode(&l); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// running is a sandbox in the background.
type running struct {
	*exec.Cmd
	listed
	err   strings.Builder
	ended chan struct{}
}

// start starts a sandbox of a name and waits until it is listed.
func (h *home) start(name string, argv ...string) *running {
	h.t.Helper()
	return h.startWith(name, nil, argv...)
}

// startWith is start with flags of sallyport run.
func (h *home) startWith(name string, flags []string, argv ...string) *running {
	h.t.Helper()
	args := append([]string{"run", "--name", name}, flags...)
	if h.policy != "" {
		args = append(args, "--policy", h.policy)
	}
	r := &running{Cmd: h.command(context.Background(), append(append(args, "--"), argv...)...), ended: make(chan struct{})}
	r.SysProcAttr.Pdeathsig = 0 // it outlives the thread that starts it
	r.Stderr, r.ExtraFiles = &r.err, h.extra
	h.extra = nil
	if err := r.Cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { _ = r.Wait(); close(r.ended) }()
	h.t.Cleanup(func() { _ = r.Process.Kill(); <-r.ended })
	waitFor(h.t, "the run to be listed", func() bool {
		for _, l := range h.ps() {
			if l.Name == name && l.PID == r.Process.Pid {
				r.listed = l
			}
		}
		return r.listed.ID != ""
	})
	return r
}

// exits waits for the end of the run.
func (r *running) exits(t *testing.T, want int) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(slow):
		t.Fatal("it does not end")
	}
	if got := r.ProcessState.ExitCode(); got != want {
		t.Errorf("exit status %d, want %d\n%s", got, want, r.err.String())
	}
}

// registryDir is where the runs of this home are listed.
func (h *home) registryDir() string { return filepath.Join(h.dir, ".local/state/sallyport/run") }

func TestRunningSandboxesAreListedAndNoOthers(t *testing.T) {
	h := newHome(t)
	if r := h.sallyport("ps").ok(); r.out != "" {
		t.Errorf("nothing runs: %q", r.out)
	}
	before := time.Now()
	one := h.start("first", "sh", "-c", "sleep 611")
	two := h.start("second\x1b[2J", "sleep", "612")
	all := h.ps()
	if len(all) != 2 || all[0].ID != one.ID || all[1].ID != two.ID {
		t.Fatalf("listed: %+v", all)
	}
	if l := all[0]; l.Name != "first" || l.Dir != h.work || !h.inTier(l.Tier) || strings.Join(l.Command, "|") != "sh|-c|sleep 611" ||
		l.Start.Before(before) || l.Start.After(time.Now()) {
		t.Errorf("listed: %+v", l)
	}
	text := h.sallyport("ps").ok().out
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "ID") || !strings.Contains(lines[1], one.ID) ||
		!strings.Contains(lines[1], "sh -c 'sleep 611'") || strings.Contains(text, "\x1b") {
		t.Errorf("listed:\n%q", text)
	}
	for _, e := range append([]string{h.registryDir()}, filepath.Join(h.registryDir(), one.ID+".json")) {
		if fi, err := os.Stat(e); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", e, fi.Mode(), err)
		}
	}
	_ = one.Process.Kill() // it cannot take itself off the list
	<-one.ended
	if all := h.ps(); len(all) != 1 || all[0].ID != two.ID {
		t.Errorf("after a crash: %+v", all)
	}
	h.sallyport("stop", two.ID).ok()
	two.exits(t, 143)
	left, err := os.ReadDir(h.registryDir())
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The runtime directory comes first; who has none there is found all the same.
func TestARunIsListedFromEverywhere(t *testing.T) {
	h := newHome(t)
	plain := h.start("plain", "sleep", "613")
	dir := h.mkdir("runtime")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "XDG_RUNTIME_DIR="+dir)
	session := h.start("session", "sleep", "614")
	if _, err := os.Stat(filepath.Join(dir, "sallyport", session.ID+".sock")); err != nil {
		t.Error(err)
	}
	if all := h.ps(); len(all) != 2 || all[0].ID != plain.ID {
		t.Errorf("listed: %+v", all)
	}
	h.sallyport("exec", "plain", "true").ok()
	h.sallyport("stop", "plain", "session").ok()
}

func TestStopEndsASandboxGentlyAndThenNot(t *testing.T) {
	h := newHome(t)
	before := descendants(t)
	for name, test := range map[string]struct {
		script string
		flags  []string
		code   int
	}{
		"gentle":   {"trap 'exit 5' TERM; touch ready; while :; do sleep 0.02; done", nil, 5},
		"stubborn": {"trap '' TERM; touch ready; while :; do sleep 0.02; done", []string{"--time", "200ms"}, 137},
		"stopped":  {"touch ready; kill -STOP $$; while :; do sleep 0.02; done", nil, 143},
	} {
		os.Remove(h.work + "/ready")
		r := h.start(name, "sh", "-c", test.script)
		waitFor(t, name, func() bool { _, err := os.Stat(h.work + "/ready"); return err == nil })
		h.sallyport(append(append([]string{"stop"}, test.flags...), name)...).ok()
		if all := h.ps(); len(all) != 0 { // when it returns, all is over
			t.Errorf("%s: still listed: %+v", name, all)
		}
		r.exits(t, test.code)
	}
	// A supervisor that does not answer.
	r := h.start("hung", "sleep", "615")
	waitFor(t, "its command", func() bool { return countArgs(descendants(t), "sleep 615") > 0 })
	_ = r.Process.Signal(unix.SIGSTOP) // stop continues it
	h.sallyport("stop", r.ID[:6]).ok()
	r.exits(t, 143)
	for _, args := range [][]string{{"none"}, {"none", "neither"}} {
		if r := h.sallyport(append([]string{"stop"}, args...)...); r.code != 1 || !strings.Contains(r.err, "no sandbox of this name or id") {
			t.Errorf("%q: exit status %d\n%s", args, r.code, r.err)
		}
	}
	a, b := h.start("twin", "sleep", "616"), h.start("twin", "sleep", "616")
	if r := h.sallyport("stop", "twin"); r.code != 1 || !strings.Contains(r.err, a.ID) || !strings.Contains(r.err, b.ID) {
		t.Errorf("exit status %d\n%s", r.code, r.err)
	}
	h.sallyport("stop", a.ID, b.ID).ok()
	h.nothingLeft(before)
}

func TestExecHasWhatThePayloadHasAndNoMore(t *testing.T) {
	need(t, "curl")
	h := newHome(t).allow("allowed.test")
	hidden := h.write(".ssh/id_ed25519", "secret")
	r := h.start("box", "sh", "-c", "echo mine >/tmp/private; export INNER=1; exec sleep 617")
	look := `grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid)' /proc/$1/status; for n in mnt net pid ipc uts user cgroup; do readlink /proc/$1/ns/$n; done;
		tr '\0' '\n' </proc/$1/environ | grep -v -e ^INNER -e ^PWD -e ^SHLVL -e ^_= | sort; readlink /proc/$1/root /proc/$1/cwd`
	payload := h.sallyport("exec", "box", "sh", "-c", look, "look", h.pidInside(r, "sleep 617")).ok()
	own := h.sallyport("exec", "box", "sh", "-c", "sleep 618 & sh -c '"+strings.ReplaceAll(look, "'", `'\''`)+"' look $!; kill $!").ok()
	if payload.out != own.out || !strings.Contains(own.out, "Seccomp:\t2") || !strings.Contains(own.out, "NoNewPrivs:\t1") {
		t.Errorf("payload:\n%s\nexec:\n%s", payload.out, own.out)
	}
	h.sallyport("exec", "box", "cat", "/tmp/private").ok().says("mine")
	// The walls are the same, and what hits them is recorded.
	for script, op := range map[string]event.Operation{
		"curl -sS http://denied.test/": event.NetConnect, "! unshare -U true": event.NSCreate,
	} {
		res := h.sallyport("exec", "box", "sh", "-c", script)
		if e := res.recorded(op, nil); e.Process == nil || e.Sandbox.ID != r.ID {
			t.Errorf("%s: recorded %+v", script, e)
		}
	}
	if res := h.sallyport("exec", "box", "sh", "-c", "cat "+hidden+" || echo x >/etc/x || echo x >"+h.dir+"/x"); res.code == 0 {
		t.Errorf("%s%s", res.out, res.err)
	}
	h.sallyport(append([]string{"exec", "-e", "CURL_CA_BUNDLE", "box"}, "curl", "-sS", "https://allowed.test/")...).ok()
	h.attackIn("box", "ptrace 1: EPERM", "peek 1: EACCES", "read /proc/1/environ: EACCES", "setns /proc/1/ns/mnt: EACCES|EPERM",
		"write /dev/null: ok", "kill 1 9: ok", "signal0 1: ok")
	h.sallyport("stop", "box").ok()
}

// attackIn makes attacks in a running sandbox.
func (h *home) attackIn(name string, want ...string) {
	h.t.Helper()
	r := h.sallyport(append([]string{"exec", "-e", helperEnv + "=attack", name, h.helperPath()}, attacksOf(want)...)...)
	compareAttacks(h.t, "inside", r.out, want, r.err)
}

// pidInside finds a process of a sandbox, by the number that it has there.
func (h *home) pidInside(r *running, args string) (number string) {
	h.t.Helper()
	waitFor(h.t, args, func() bool {
		for pid, p := range below(processes(h.t), r.Process.Pid) {
			if !strings.HasPrefix(p.args, args) {
				continue
			}
			status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
			for line := range strings.Lines(string(status)) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" {
					number = f[len(f)-1]
				}
			}
		}
		return number != ""
	})
	return number
}

func TestExecPassesStreamsStatusAndSignals(t *testing.T) {
	h := newHome(t)
	r := h.start("box", "sleep", "619")
	for want, command := range map[int][]string{
		0: {"true"}, 42: {"sh", "-c", "exit 42"}, 137: {"sh", "-c", "kill -9 $$"}, 127: {"no-such-program"}, 126: {"/etc/passwd"},
	} {
		if got := h.sallyport(append([]string{"exec", r.ID}, command...)...); got.code != want || want > 125 && want < 128 && !strings.Contains(got.err, "hint: ") {
			t.Errorf("%q: exit status %d\n%s", command, got.code, got.err)
		}
	}
	for _, args := range [][]string{{"none", "true"}, {"-C", "/none", "box", "true"}, {"box"}, {"box", "--"}, {"--none", "box", "true"}, {"-e", "=x", "box", "true"}} {
		if got := h.sallyport(append([]string{"exec"}, args...)...); got.code != 125 || !strings.Contains(got.err, "sallyport: error: ") {
			t.Errorf("%q: exit status %d\n%s", args, got.code, got.err)
		}
	}
	in, out := h.write("in", "\x00\r\nbytes\xff"), h.write("out", "")
	h.stdin, _ = os.Open(in)
	h.stdout, _ = os.OpenFile(out, os.O_WRONLY, 0)
	h.sallyport("exec", "box", "cat").ok()
	h.stdin, h.stdout = nil, nil
	if got := h.read("out"); got != "\x00\r\nbytes\xff" {
		t.Errorf("copied %q", got)
	}
	h.sallyport("exec", "-C", "/tmp", "-e", "A=b c", "-e", "UNSET", "box", "--", "sh", "-c", `pwd; echo "$A"; echo "${UNSET-no}"`).ok().says("/tmp\nb c\nno\n")
	h.stdout, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if got := h.sallyport("exec", "box", "sh", "-c", "echo again >/dev/stdout && exit 3"); got.code != 3 {
		t.Errorf("the null device is not opened again: exit status %d\n%s", got.code, got.err)
	}
	h.stdout = nil
	h.stdin, _ = os.Open(h.dir)
	if got := h.sallyport("exec", "box", "true"); got.code != 125 || !strings.Contains(got.err, "directory") {
		t.Errorf("a directory as a stream: exit status %d\n%s", got.code, got.err)
	}
	h.stdin = nil
	h.signalled(r)
}

// signalled ends programs that have joined in every way, the last one with the
// sandbox.
func (h *home) signalled(r *running) {
	h.t.Helper()
	start := func(script string) *exec.Cmd {
		os.Remove(h.work + "/up")
		cmd := h.command(context.Background(), "exec", "box", "sh", "-c", script)
		if err := cmd.Start(); err != nil {
			h.t.Fatal(err)
		}
		waitFor(h.t, "the program", func() bool { _, err := os.Stat(h.work + "/up"); return err == nil })
		return cmd
	}
	cmd := start("trap 'exit 9' TERM; touch up; while :; do sleep 0.02; done")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
		h.t.Errorf("SIGTERM: exit status %d", cmd.ProcessState.ExitCode())
	}
	cmd = start("touch up; exec sleep 620")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	waitFor(h.t, "its end with its client", func() bool { return countArgs(below(processes(h.t), r.Process.Pid), "sleep 620") == 0 })
	cmd = start("touch up; exec sleep 621")
	h.sallyport("stop", "box").ok()
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 137 {
		h.t.Errorf("the sandbox ended: exit status %d", cmd.ProcessState.ExitCode())
	}
}

func TestExecOnATerminalHasOneOfItsOwn(t *testing.T) {
	h := newHome(t)
	h.start("box", "sleep", "622")
	run := func(argv ...string) *screen {
		return h.newScreen().start(h.command(context.Background(), append([]string{"exec", "box"}, argv...)...))
	}
	s := run("bash", "--norc", "--noprofile", "-i").wants("$ ").types("tty; stty size\r").wants("/dev/pts/0\r\n24 80\r\n")
	s.resize(50, 132)
	until(t, "the new size", func() bool {
		s.types("stty size\r")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(s.text(), "50 132")
	})
	s.types("sh -c 'echo as''leep; exec sleep 623'\r").wants("asleep\r\n").types(ctrlZ).wants("Stopped").wants("$ ").types("fg\r").wants("fg\r\n").wants("sleep 623").types(ctrlC).wants("^C").wants("$ ")
	s.types("nohup sleep 624 & exit 6\r").exits(6) // what it leaves running is not waited for
	s = run("sh", "-c", "stty raw -echo; echo up; exec sleep 625").wants("up")
	s.signal(syscall.SIGTERM)
	s.exits(143)
	h.sallyport("stop", "box").ok()
}

// Who is in a sandbox can ask no sandbox for a program, its own or another.
func TestThePayloadCannotReachTheList(t *testing.T) {
	h := newHome(t).usePolicy("network: {allowAllUnixSockets: true}\n")
	other := h.start("other", "sleep", "626")
	sock := filepath.Join(h.registryDir(), other.ID+".sock")
	h.attack("uconnect stream "+sock+": EACCES|ENOENT", "stat "+sock+": EACCES|ENOENT", "read "+filepath.Dir(sock)+": EACCES|ENOENT",
		"create "+filepath.Dir(sock)+"/x: EACCES|ENOENT|EROFS")
	exe := h.ownBinary()
	if r := h.run(exe, "exec", "other", "true"); r.code != 125 {
		t.Errorf("exit status %d\n%s%s", r.code, r.out, r.err)
	}
	h.sallyport("stop", "other").ok()
}

// ownBinary is sallyport where a sandbox can see it.
func (h *home) ownBinary() string {
	h.t.Helper()
	exe := filepath.Join(h.work, "sallyport")
	copyFile(h.t, binary, exe, 0o755)
	return exe
}

func TestExecsAtOnceAreKeptApart(t *testing.T) {
	h := newHome(t)
	h.start("box", "sleep", "627")
	const many = 20
	outs := make([]string, many)
	done := make(chan int)
	for i := range many {
		cmd := h.command(context.Background(), "exec", "box", "sh", "-c", "cat; exit "+strconv.Itoa(i))
		cmd.Stdin = strings.NewReader("input " + strconv.Itoa(i))
		go func() {
			out, err := cmd.CombinedOutput()
			if outs[i] = string(out); cmd.ProcessState.ExitCode() != i {
				outs[i] += err.Error()
			}
			done <- i
		}()
	}
	for range many {
		<-done
	}
	for i, out := range outs {
		if out != "input "+strconv.Itoa(i) {
			t.Errorf("%d: %q", i, out)
		}
	}
	h.sallyport("stop", "box").ok()
}
