package sallyport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/seatbelt"
)

// The suite for a real Mac: what the profile is believed to mean is asked of
// the kernel, and what the log is believed to say of the log. Nothing leaves
// the machine.

// realMac is a project directory below a home of its own.
type realMac struct {
	t          *testing.T
	home, proj string
	policy     string
	timeout    time.Duration
}

func newRealMac(t *testing.T, yaml string) *realMac {
	t.Helper()
	requireLog(t)
	home := ResolvePath(t.TempDir())
	m := &realMac{t: t, home: home, proj: filepath.Join(home, "proj"), policy: filepath.Join(home, "policy.yaml")}
	for _, name := range []string{"XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	m.write("proj/a.txt", "a")
	if yaml == "" {
		yaml = "network: {}"
	}
	m.write("policy.yaml", yaml+"\n")
	return m
}

// requireLog skips where the log cannot be read, which an administrator can; a
// runner of CI is one, so there it fails.
func requireLog(t *testing.T) {
	t.Helper()
	err := seatbelt.Preflight(seatbelt.System{}, nil, 0)
	if errors.Is(err, seatbelt.ErrInSandbox) && os.Getenv("CI") == "" {
		t.Skip("these tests are in a sandbox already, and no sandbox can be entered from one")
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/usr/bin/id", "-Gn").Output()
	if err == nil && !slices.Contains(strings.Fields(string(out)), "admin") && os.Getenv("CI") == "" {
		t.Skip("the user is no administrator, and only they may read the log")
	}
}

func (m *realMac) write(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// sh runs a script and gives what it printed, and how it ended.
func (m *realMac) sh(script string) (string, *Result, []event.Event) {
	m.t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		m.t.Fatal(err)
	}
	defer null.Close()
	return m.shOn(null, script)
}

// shOn is sh with a standard input.
func (m *realMac) shOn(stdin *os.File, script string) (string, *Result, []event.Event) {
	m.t.Helper()
	out, err := os.CreateTemp(m.t.TempDir(), "out")
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	var mu sync.Mutex
	var events []event.Event
	result, err := Run(context.Background(), Options{Command: []string{"/bin/sh", "-c", script}, Dir: m.proj,
		Policy: LoadOptions{Files: []string{m.policy}}, Timeout: m.timeout, Stdin: stdin, Stdout: out, Stderr: out,
		OnEvent: func(e Event) { mu.Lock(); events = append(events, e); mu.Unlock() },
		Warn:    func(message, hint string) { m.t.Logf("warned: %s (%s)", message, hint) }})
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b), result, events
}

// recorded finds a denial of an operation on an object.
func recorded(events []event.Event, op event.Operation, object string) *event.Event {
	for i, e := range events {
		if e.Operation == op && e.Verdict == event.Deny && strings.Contains(audit.FormatObject(e.Object), object) {
			return &events[i]
		}
	}
	return nil
}

func TestMacCommandRunsAndItsStatusPasses(t *testing.T) {
	m := newRealMac(t, "")
	out, result, events := m.sh("cat a.txt; echo new > b.txt; cat b.txt; echo x > $TMPDIR/x && cat $TMPDIR/x; exit 7")
	if out != "anew\nx\n" || result.Status != 7 || result.Summary.Tier != event.TierSeatbelt {
		t.Errorf("%q, %+v", out, result)
	}
	for _, e := range events {
		if e.Verdict == event.Deny && e.Operation != event.SysRefused {
			t.Errorf("a harmless script was refused %+v", e)
		}
	}
	for _, why := range result.Summary.NotRecorded {
		if !slices.Contains(macNotRecorded(), why) {
			t.Errorf("not recorded: %s", why)
		}
	}
}

func TestMacHiddenFilesAreRefusedAndRecorded(t *testing.T) {
	m := newRealMac(t, "filesystem:\n  denyRead:\n    - ~/.aws\n    - \"**/.env*\"\n  allowRead:\n    - \"**/.env.example\"\n")
	m.write(".aws/credentials", "secret")
	m.write("proj/sub/.env", "secret")
	m.write("proj/.env.example", "public")
	out, _, events := m.sh("cat ~/.aws/credentials; cat sub/.env; ls ~/.aws; cat .env.example")
	if strings.Contains(out, "secret") || !strings.Contains(out, "public") || strings.Contains(out, "credentials\n") {
		t.Errorf("printed %q", out)
	}
	for object, rule := range map[string]string{".aws/credentials": m.policy + ":3", "sub/.env": m.policy + ":4"} {
		e := recorded(events, event.FileRead, object)
		if e == nil || e.Rule != rule || e.Process.PID == 0 || e.Errno != "EPERM" {
			t.Errorf("%s: recorded %+v", object, e)
		}
	}
}

func TestMacWritesOutsideAreRefusedAndRecorded(t *testing.T) {
	m := newRealMac(t, "")
	m.write("proj/.git/hooks/keep", "")
	m.write("proj/.git/config", "[core]")
	for _, tt := range []struct{ script, path string }{
		{"echo x > ~/outside", "/outside"},
		{"echo x > /private/tmp/sallyport-outside", "/private/tmp/sallyport-outside"},
		{"echo x > .bashrc", ".bashrc"},
		{"echo x > .BASHRC", ".BASHRC"},
		{"echo x > .git/hooks/pre-commit", ".git/hooks/pre-commit"},
		{"echo x >> .git/config", ".git/config"},
		{"mkdir -p d/.vscode", ".vscode"},
	} {
		out, _, events := m.sh(tt.script + " && echo WRITTEN")
		if strings.Contains(out, "WRITTEN") {
			t.Errorf("%s was done", tt.script)
		}
		if recorded(events, event.FileCreate, tt.path) == nil && recorded(events, event.FileWrite, tt.path) == nil {
			t.Errorf("%s: not recorded: %+v", tt.script, events)
		}
	}
}

func TestMacMoveAttacksAreRefused(t *testing.T) {
	m := newRealMac(t, "filesystem: {denyRead: [~/proj/deep/down/secret, \"~/proj/**/.env\"], allowWrite: [~/proj, ~/other]}\n")
	m.write("proj/deep/down/secret", "secret")
	m.write("proj/sub/.env", "secret")
	m.write("proj/.git/hooks/keep", "")
	m.write("other/keep", "")
	for _, script := range []string{
		"mv deep/down/secret x; cat x",
		"mv deep/down x; cat x/secret",
		"mv deep x; cat x/down/secret",
		"mv deep ../other/x; cat ../other/x/down/secret",
		"mv sub/.env x; cat x",
		"mv sub ../other/sub; cat ../other/sub/.env",
		"mv sub $TMPDIR/sub; cat $TMPDIR/sub/.env",
		"ln deep/down/secret x; cat x",
		"ln -s deep/down/secret x; cat x",
		"mkdir -p y/hooks && echo secret > y/hooks/p && mv .git z && mv y .git; cat .git/hooks/p",
		"mkdir -p $TMPDIR/y/hooks && echo secret > $TMPDIR/y/hooks/p && mkdir n && mv $TMPDIR/y n/.git; cat n/.git/hooks/p",
	} {
		if out, _, _ := m.sh(script); strings.Contains(out, "secret") {
			t.Errorf("%s: printed %q", script, out)
		}
	}
}

func TestMacNetworkIsTheProxyAlone(t *testing.T) {
	m := newRealMac(t, "network: {allowedDomains: [ok.example]}")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan string, 10)
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			reached <- c.RemoteAddr().String()
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	out, result, events := m.sh(fmt.Sprintf(`
		curl -s --noproxy '*' -m 5 http://127.0.0.1:%[1]s/ && echo DIRECT
		nc -w 2 127.0.0.1 %[1]s < /dev/null && echo DIRECT
		curl -s -m 5 -o /dev/null -w '%%{http_code}\n' http://denied.example/
		curl -s -m 5 https://denied.example/ || echo refused
		curl -s -m 5 -U wrong:token -x http://127.0.0.1:${HTTP_PROXY##*:}/ -o /dev/null -w '%%{http_code}\n' http://denied.example/
		dscacheutil -q host -a name example.com; nc -U /var/run/mDNSResponder < /dev/null && echo SOCKET`, port))
	if strings.Contains(out, "DIRECT") || strings.Contains(out, "SOCKET") || strings.Contains(out, "ip_address") {
		t.Errorf("printed %q", out)
	}
	if !strings.Contains(out, "403\n") || !strings.Contains(out, "refused") || !strings.Contains(out, "407\n") {
		t.Errorf("the proxy did not answer: %q", out)
	}
	select {
	case from := <-reached:
		t.Errorf("a listener outside was reached from %s", from)
	default:
	}
	if recorded(events, event.NetConnect, ":"+port) == nil || recorded(events, event.NetConnect, "denied.example") == nil {
		t.Errorf("not recorded: %+v", result.Summary.Denials)
	}
}

func TestMacListeningIsOpenedByThePolicyAlone(t *testing.T) {
	const script = `(sleep 1; exit) | nc -l 127.0.0.1 34571 & sleep 0.3; lsof -nP -iTCP:34571 -sTCP:LISTEN >/dev/null && echo LISTENS; wait`
	m := newRealMac(t, "")
	if out, _, events := m.sh(script); strings.Contains(out, "LISTENS") || recorded(events, event.NetBind, "34571") == nil {
		t.Errorf("printed %q, recorded %+v", out, events)
	}
	m = newRealMac(t, "network: {allowLocalBinding: true}")
	done := make(chan string, 1)
	go func() { // from outside: lsof needs rights that a sandbox has not
		for range 100 {
			if c, err := net.Dial("tcp", "127.0.0.1:34571"); err == nil {
				c.Close()
				done <- "LISTENS"
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		done <- "nobody listens"
	}()
	m.sh(`(sleep 2; exit) | nc -l 127.0.0.1 34571`)
	if got := <-done; got != "LISTENS" {
		t.Error(got)
	}
}

func TestMacEveryRefusalOfABurstIsRecorded(t *testing.T) {
	m := newRealMac(t, "filesystem: {denyRead: [~/hidden]}\n")
	m.write("hidden/x", "")
	_, result, events := m.sh("i=0; while [ $i -lt 1000 ]; do cat ~/hidden/$i 2>/dev/null; i=$((i+1)); done")
	var n uint64
	for _, e := range events {
		if e.Operation == event.FileRead && strings.Contains(string(e.Object.Path), "/hidden/") {
			n += e.Count
		}
	}
	if n+result.Summary.Lost < 1000 {
		t.Errorf("%d recorded, %d lost, of 1000", n, result.Summary.Lost)
	}
	if result.Summary.Lost > 0 {
		t.Logf("the log dropped %d", result.Summary.Lost)
	}
}

func TestMacSetuidProgramsAreRefusedAndRecorded(t *testing.T) {
	m := newRealMac(t, "")
	out, _, events := m.sh("/usr/bin/sudo -n true && echo ROOT; /usr/bin/su -l root -c true </dev/null && echo ROOT")
	if strings.Contains(out, "ROOT") {
		t.Errorf("printed %q", out)
	}
	if recorded(events, event.FileExec, "") == nil {
		t.Errorf("not recorded: these refusals may carry no tag, and were not found by pid either: %+v", events)
	}
}

func TestMacNoSandboxInsideAndNoWayOut(t *testing.T) {
	m := newRealMac(t, "")
	out, _, _ := m.sh(`sandbox-exec -p '(version 1)(allow default)' /usr/bin/true && echo NESTED
		open -a TextEdit && echo OPENED; launchctl submit -l x -- /usr/bin/true && echo SUBMITTED
		security find-generic-password -l x 2>&1 | grep -q 'could not be found' && echo KEYCHAIN`)
	for _, word := range []string{"NESTED", "OPENED", "SUBMITTED", "KEYCHAIN"} {
		if strings.Contains(out, word) {
			t.Errorf("printed %q", out)
		}
	}
}

// typing tries to put a letter into the terminal's input (TIOCSTI, tty(4)).
const typing = `/usr/bin/perl -e '$x = "x"; print "PERL\n"; print "TYPED\n" if ioctl(STDIN, 0x80017472, $x);
	open(T, "+<", "/dev/tty") && print "OPENED\n"; print "TYPED\n" if ioctl(T, 0x80017472, $x)'`

// openTerminal makes a pseudo terminal, as posix_openpt(3), grantpt(3) and
// unlockpt(3) do, and gives the side of what runs on it.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for _, request := range []uint{unix.TIOCPTYGRANT, unix.TIOCPTYUNLK} {
		if err := unix.IoctlSetInt(fd, request, 0); err != nil {
			t.Fatal(err)
		}
	}
	var name [128]byte
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), unix.TIOCPTYGNAME, uintptr(unsafe.Pointer(&name[0]))); errno != 0 {
		t.Fatal(errno)
	}
	tty, err := os.OpenFile(unix.ByteSliceToString(name[:]), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty
}

// TestMacCommandTypesIntoNoTerminal runs itself again on a terminal.
func TestMacCommandTypesIntoNoTerminal(t *testing.T) {
	const inner = "SALLYPORT_TEST_ON_TERMINAL"
	if os.Getenv(inner) == "" {
		requireLog(t)
		cmd := exec.Command(testBinary(t), "-test.v", "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), inner+"=1")
		cmd.Stdin = openTerminal(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // standard input
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("on a terminal: %v", err)
		}
		return
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	outside := exec.Command("/bin/sh", "-c", typing)
	outside.Stdin = tty
	if out, _ := outside.Output(); !strings.Contains(string(out), "OPENED") {
		t.Fatalf("outside of a sandbox the terminal cannot be opened: the test says nothing: %q", out)
	} else if !strings.Contains(string(out), "TYPED") {
		t.Log("this system lets nobody type for others")
	}
	for _, yaml := range []string{"", "allowPty: true"} {
		if out, _, _ := newRealMac(t, yaml).shOn(tty, typing); !strings.Contains(out, "PERL") || strings.Contains(out, "TYPED") || strings.Contains(out, "OPENED") {
			t.Errorf("%q: printed %q", yaml, out)
		}
	}
}

func TestMacCommandRunsOutOfTime(t *testing.T) {
	m := newRealMac(t, "")
	m.timeout = 300 * time.Millisecond
	if _, result, _ := m.sh("sleep 300"); result.Status != 124 || !result.TimedOut {
		t.Errorf("%+v", result)
	}
}

func TestMacNoProcessIsLeft(t *testing.T) {
	m := newRealMac(t, "")
	out, _, _ := m.sh("sleep 300 & echo $!; sleep 0.3")
	pid := strings.TrimSpace(out)
	if b, err := exec.Command("/bin/ps", "-o", "stat=", "-p", pid).Output(); err == nil && !strings.HasPrefix(strings.TrimSpace(string(b)), "Z") {
		t.Errorf("process %s is still there: %s", pid, b)
	}
}

func TestMacAnotherProgramJoinsAndTheRunIsStopped(t *testing.T) {
	m := newRealMac(t, "network: {allowAllUnixSockets: true}")
	short, err := os.MkdirTemp("/tmp", "sp-") // a socket's name can be no longer than 103
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	t.Setenv("XDG_RUNTIME_DIR", short)
	result := make(chan *Result, 1)
	go func() {
		defer close(result)
		_, r, _ := m.sh("echo $$ > started; sleep 300")
		result <- r
	}()
	waitUntil(t, func() bool { return len(List()) == 1 })
	if len(List()) != 1 {
		t.FailNow()
	}
	id := List()[0].ID
	sock := filepath.Join(short, "sallyport", id+".sock")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	status, err := Exec(ExecOptions{Sandbox: id, Stdout: out, Stderr: out, Command: []string{"/bin/sh", "-c",
		"echo joined; echo x > ~/outside && echo WRITTEN; nc -U -w 2 " + sock + " < /dev/null && echo CONNECTED; exit 6"}})
	b, readErr := os.ReadFile(out.Name())
	if text := string(b); err != nil || readErr != nil || status != 6 || !strings.Contains(text, "joined") ||
		strings.Contains(text, "WRITTEN") || strings.Contains(text, "CONNECTED") {
		t.Errorf("%d, %v: %s", status, err, b)
	}
	if err := Stop(context.Background(), id, time.Second); err != nil {
		t.Error(err)
	}
	if r := <-result; r == nil || r.Status == 0 {
		t.Errorf("%+v", r)
	}
	if removed, err := Clean(); err != nil || len(removed) != 0 || len(List()) != 0 {
		t.Errorf("left %v, %v", removed, err)
	}
}

// TestMacProfileMeansWhatItIsBelievedTo asks the kernel what the evaluators of
// the profile's tests take for granted.
func TestMacProfileMeansWhatItIsBelievedTo(t *testing.T) {
	requireLog(t)
	dir := ResolvePath(t.TempDir())
	for _, tt := range []struct {
		name, rules, script string
		works               bool
	}{
		{"the last filtered rule decides", `(deny file-write* (subpath (param "D")))(allow file-write* (subpath (param "D")))`, "echo x > f", true},
		{"and the other way round", `(allow file-write* (subpath (param "D")))(deny file-write* (subpath (param "D")))`, "echo x > f", false},
		{"a denied leaf stays denied", `(deny file-write-unlink (subpath (param "D")))(allow file-write* (subpath (param "D")))`, "echo x > f && rm f", false},
		{"an unfiltered rule does not beat a filtered one", `(deny file-write* (subpath (param "D")))(allow file-write*)`, "echo x > f", false},
		{"require-all with a parameter and an expression", `(deny file-write* (require-all (subpath (param "D")) (regex "^(/[^/]+)*/[pP]rotected(/[^/]+)*$")))`, "echo x > Protected", false},
		{"and what it does not match", `(deny file-write* (require-all (subpath (param "D")) (regex "^(/[^/]+)*/[pP]rotected(/[^/]+)*$")))`, "echo x > other", true},
		{"nested any in all", `(deny file-write* (require-all (require-any (subpath (param "D")) (subpath "/nowhere")) (require-any (regex "^(/[^/]+)*/a$") (regex "^(/[^/]+)*/b$"))))`, "echo x > b", false},
		{"a name beyond ASCII matches the class of all that is not", `(deny file-write* (regex "^(/[^/]+)*/x[^ -~]+$"))`, "echo x > xé", false},
		{"a line break in a name matches a negated class", `(deny file-write* (regex "^(/[^/]+)*/x[^/]+y$"))`, "echo x > \"$(printf 'x\\ny')\"", false},
		{"an escaped dot is a dot", `(deny file-write* (regex "^(/[^/]+)*/a\\.b$"))`, "echo x > axb", true},
		{"a missing path is matched in the letters it is made with", `(deny file-write-create (literal (string-append (param "D") "/secret")))`, "echo x > SECRET", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("/usr/bin/sandbox-exec", "-p", "(version 1)(allow default)"+tt.rules, "-DD="+dir, "--", "/bin/sh", "-c", tt.script)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.works {
				t.Errorf("works: %v, want %v: %v %s", err == nil, tt.works, err, out)
			}
			for _, name := range []string{"f", "Protected", "other", "a", "b", "xé", "x\ny", "axb", "SECRET"} {
				os.Remove(filepath.Join(dir, name))
			}
		})
	}
}

func TestMacProfileOfAThousandPathsCompiles(t *testing.T) {
	var list []string
	for i := range 240 {
		list = append(list, fmt.Sprintf("/Users/somebody/with/a/long/name/directory-%d", i))
	}
	m := newRealMac(t, "filesystem: {denyRead: ["+strings.Join(list, ", ")+"]}\n")
	if _, result, _ := m.sh("true"); result.Status != 0 {
		t.Errorf("%+v", result)
	}
}

func TestMacDoctorFindsNothingMissing(t *testing.T) {
	requireLog(t)
	for _, f := range Doctor(context.Background()).Findings {
		t.Log(f.State, f.Name, f.Found)
		if f.State == StateMissing || f.Name == "trial run" && f.State != StateOK {
			t.Errorf("%s: %s", f.Name, f.Found)
		}
	}
}
