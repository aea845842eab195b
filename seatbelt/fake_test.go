package seatbelt

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs of macOS, played by the test binary itself. What the kernel
// would report stands in the file "log" of a directory, a line for each record.
const (
	fakeProgram = "FAKE_PROGRAM"
	fakeDir     = "FAKE_DIR"
	fakeMode    = "FAKE_MODE"
)

func TestMain(m *testing.M) {
	switch os.Getenv(fakeProgram) {
	case logProgram:
		os.Exit(fakeLog(os.Args[1:], os.Getenv(fakeMode)))
	case sandboxExec:
		os.Exit(fakeSandboxExec(os.Args[1:], os.Getenv(fakeMode)))
	}
	os.Exit(m.Run())
}

// fakes is an Exec that starts the fakes, and remembers what it started.
type fakes struct {
	t    testing.TB
	dir  string
	mu   sync.Mutex
	mode string
	ran  []Command
	all  []Process
}

func newFakes(t testing.TB, mode string) *fakes {
	f := &fakes{t: t, dir: t.TempDir(), mode: mode}
	f.report("") // the file exists
	t.Cleanup(func() {
		for _, p := range f.all {
			if err := p.Kill(); err == nil {
				t.Errorf("%v was still running", p.(*process).cmd.Args)
			}
		}
	})
	return f
}

func (f *fakes) Start(c Command) (Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ran = append(f.ran, c)
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, c.Args...)
	cmd.Env = append(slices.Clone(c.Env), fakeProgram+"="+c.Path, fakeDir+"="+f.dir, fakeMode+"="+f.mode)
	p, err := startProcess(cmd)
	if err == nil && c.Path == logProgram {
		f.all = append(f.all, p)
	}
	return p, err
}

func (f *fakes) setMode(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

// started gives the arguments of every program of one name.
func (f *fakes) started(path string) (args [][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.ran {
		if c.Path == path {
			args = append(args, c.Args)
		}
	}
	return args
}

// report appends lines to what the kernel has said.
func (f *fakes) report(lines ...string) { appendLog(f.dir, lines...) }

func appendLog(dir string, lines ...string) {
	file, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	for _, l := range lines {
		if l != "" {
			fmt.Fprintln(file, l)
		}
	}
}

var machClock = struct {
	sync.Mutex
	now int64
}{now: time.Now().UnixNano()}

// kernelSays is an ndjson line with a clock of its own.
func kernelSays(text string) string {
	machClock.Lock()
	defer machClock.Unlock()
	machClock.now++
	return strings.Replace(logEntry(0, kernelPath, text), `"machTimestamp":987654321`,
		fmt.Sprintf(`"machTimestamp":%d`, machClock.now), 1)
}

func has(mode, what string) bool { return slices.Contains(strings.Split(mode, ","), what) }

// fakeLog plays /usr/bin/log.
func fakeLog(args []string, mode string) int {
	file := filepath.Join(os.Getenv(fakeDir), "log")
	switch {
	case has(mode, "not-admin"):
		fmt.Fprintln(os.Stderr, "log: Must be admin to run 'stream' command")
		return 77
	case has(mode, "sandboxed"):
		fmt.Fprintln(os.Stderr, "log: Cannot run while sandboxed")
		return 64
	case has(mode, "exit3"):
		fmt.Fprintln(os.Stderr, "log: Bad predicate")
		return 3
	}
	if has(mode, "deaf-to-term") {
		signal.Ignore(syscall.SIGTERM)
	}
	if args[0] == "show" {
		b, _ := os.ReadFile(file)
		if !has(mode, "show-nothing") {
			os.Stdout.Write(b)
		}
		fmt.Println(`{"count":7,"finished":1}`)
		return 0
	}
	fmt.Println(`Filtering the log data using "processID == 0"`)
	if has(mode, "slow") {
		time.Sleep(150 * time.Millisecond)
	}
	deaf := has(mode, "deaf") || has(mode, "needs-type") && !slices.Contains(args, "--type")
	return followLog(file, mode, deaf)
}

// followLog prints what comes, and nothing of what was there before.
func followLog(file, mode string, deaf bool) int {
	at, _ := os.ReadFile(file)
	end, shown := len(at), 0
	for {
		b, _ := os.ReadFile(file)
		if whole := b[:bytes.LastIndexByte(b, '\n')+1]; len(whole) > end && !deaf {
			shown += writeLike(whole[end:], mode)
			end = len(whole)
		}
		if has(mode, "stalls") && shown > 0 {
			select {}
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(file), "die")); err == nil {
			os.Remove(filepath.Join(filepath.Dir(file), "die"))
			return 1
		}
		time.Sleep(time.Millisecond)
	}
}

func writeLike(b []byte, mode string) int {
	if has(mode, "dribbles") {
		for i := 0; i < len(b); i += 7 {
			os.Stdout.Write(b[i:min(i+7, len(b))])
		}
		return len(b)
	}
	os.Stdout.Write(b)
	return len(b)
}

var messageIn = regexp.MustCompile(`\(with message "([^"]*)"\)`)

// fakeSandboxExec plays /usr/bin/sandbox-exec: of its profiles it knows the
// canary's, and otherwise runs the command as it is.
func fakeSandboxExec(args []string, mode string) int {
	switch {
	case has(mode, "nested"):
		fmt.Fprintln(os.Stderr, "sandbox-exec: sandbox_apply: Operation not permitted")
		return 71
	case has(mode, "bad-profile") && !strings.Contains(args[1], "(allow default)"):
		fmt.Fprintln(os.Stderr, "sandbox-exec: <input string>:3:7: unbound variable: nonsense")
		return 65
	case has(mode, "hangs"):
		time.Sleep(time.Hour)
	}
	command := slices.Index(args, "--") + 1
	if tag := messageIn.FindStringSubmatch(args[1]); tag != nil && args[command] == catProgram {
		appendLog(os.Getenv(fakeDir), kernelSays(fmt.Sprintf("Sandbox: cat(%d) deny(1) file-read-data %s\n%s",
			os.Getpid(), args[len(args)-1], tag[1])))
		return 1
	}
	return 0
}
