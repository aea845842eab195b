//go:build linux || darwin

package sallyport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/fakemac"
	carrying "github.com/sallyport/sallyport/internal/outlets"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestMain(m *testing.M) {
	Init()
	fakemac.Main()
	if filepath.Base(os.Args[0]) == AgentProgram {
		if err := carrying.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if does := os.Getenv(helperVariable); does != "" {
		os.Exit(macHelper(does, os.Args[1:]))
	}
	os.Exit(inOwnHome(m))
}

// inOwnHome keeps what runs record out of the developer's home.
func inOwnHome(m *testing.M) int {
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv("HOME", dir)
	for _, name := range []string{"CONFIG", "STATE", "CACHE"} {
		os.Unsetenv("XDG_" + name + "_HOME")
	}
	return m.Run()
}

func TestARunOnMacOSRecordsWhatTheKernelRefuses(t *testing.T) {
	w := newMacWorld(t, "", "filesystem:\n  denyRead:\n    - /hidden\n")
	w.during = func(w *macWorld) {
		w.denies(77, "file-read-data", "/hidden/x")
		w.denies(77, "file-write-create", "/usr/x")
		w.denies(77, "mach-lookup", "com.apple.trustd.agent")
		w.denies(77, "network-outbound", "remote:*:443")
		w.denies(77, "file-ioctl", "path:/dev/dtracehelper")
		w.done()
	}
	result, err := w.run(context.Background(), "sh", "-c", untilDone)
	if err != nil {
		t.Fatal(err)
	}
	sum := result.Summary
	if result.Status != 3 || sum.Tier != event.TierSeatbelt || sum.Counts[event.Deny] != 5 || len(sum.Denials) != 4 || sum.Lost != 0 {
		t.Errorf("%+v", sum)
	}
	want := map[string]string{"file.read /hidden/x": w.policy + ":3", "file.create /usr/x": "builtin:read-only",
		"sys.refused com.apple.trustd.agent": "builtin:seatbelt", "net.connect remote:*:443": "builtin:seatbelt"}
	for _, d := range sum.Denials {
		key := d.Operation.String() + " " + audit.FormatObject(d.Object)
		if want[key] != d.Rule {
			t.Errorf("%s by %s, want %s", key, d.Rule, want[key])
		}
		if d.Object.Ref == "com.apple.trustd.agent" && !strings.Contains(d.Suggest, "enableWeakerNetworkIsolation") {
			t.Errorf("nothing helps Go programs: %q", d.Suggest)
		}
	}
	checkRecord(t, w)
}

// checkRecord reads the audit log.
func checkRecord(t *testing.T, w *macWorld) {
	t.Helper()
	n := 0
	for r, err := range audit.Query(audit.Dir(os.Getenv, os.Getenv("HOME")), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		e := r.Event
		if e.Sandbox.Tier != event.TierSeatbelt || e.BootID != "boot" || e.Layer != event.LayerSeatbelt || e.Process.UID != uint32(os.Getuid()) ||
			!strings.Contains(string(e.Detail), "attribution=tag") || e.Sandbox.Name != "trial" {
			t.Errorf("recorded %+v", e)
		}
	}
	if n != 5 || len(w.events) != 5 {
		t.Errorf("%d events recorded, %d told", n, len(w.events))
	}
}

func TestACommandOnMacOSGetsItsProfileAndItsProxy(t *testing.T) {
	t.Setenv("SECRET_OF_MINE", "x")
	w := newMacWorld(t, "", "network: {allowedDomains: [ok.test]}\n")
	tmp := ""
	w.during = func(w *macWorld) {
		defer w.done()
		tmp = w.env("TMPDIR")
		if info, err := os.Stat(tmp); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("TMPDIR %s: %v", tmp, err)
		}
		at, err := url.Parse(w.env("HTTPS_PROXY"))
		if err != nil {
			t.Error(err)
			return
		}
		token, _ := at.User.Password()
		for auth, want := range map[string]int{"": 407, at.User.Username() + ":wrong": 407, at.User.Username() + ":" + token: 403} {
			if got := connectStatus(t, at.Host, "denied.test:443", auth); got != want {
				t.Errorf("with %q: %d, want %d", auth, got, want)
			}
		}
		if socks := w.env("ALL_PROXY"); socks != "socks5h://"+at.User.String()+"@"+at.Host {
			t.Errorf("ALL_PROXY %s", socks)
		}
		for auth, want := range map[string][]byte{"wrong": {1, 1}, token: {1, 0, 5, 2}} { // refused; accepted, and denied by a rule (RFC 1929, RFC 1928)
			if got := socksReply(t, at.Host, at.User.Username(), auth, "denied.test"); !bytes.Equal(got, want) {
				t.Errorf("SOCKS with %q: %v, want %v", auth, got, want)
			}
		}
		w.checkLaunch(at)
	}
	result, err := w.run(context.Background(), "sh", "-c", untilDone, "a b", `$(c)"`)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range w.events {
		if e.Process != nil || !strings.HasSuffix(string(e.Detail), "attribution=none") {
			t.Errorf("of whom this is is not known here: %+v", e)
		}
	}
	denied := 0
	for _, d := range result.Summary.Denials {
		if d.Object.Host == "denied.test" {
			denied++
		}
	}
	if denied != 1 || len(result.Summary.Denials) != 2 {
		t.Errorf("%+v", result.Summary.Denials)
	}
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run's directory is still there: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func (w *macWorld) checkLaunch(at *url.URL) {
	l := w.launched
	sh, err := exec.LookPath("sh")
	if err != nil {
		w.t.Error(err)
	}
	i := slices.Index(l.Args, "--")
	if l.Path != "/usr/bin/sandbox-exec" || l.Args[0] != "-p" || l.Dir != ResolvePath(w.dir) ||
		!slices.Equal(l.Args[i+1:], []string{sh, "-c", untilDone, "a b", `$(c)"`}) {
		w.t.Errorf("launched %s %q in %s", l.Path, l.Args[i:], l.Dir)
	}
	if !strings.Contains(l.Args[1], `(remote ip "localhost:`+at.Port()+`")`) {
		w.t.Error("the profile does not open the proxy's port")
	}
	if strings.Contains(strings.Join(l.Env, "\n"), "SECRET_OF_MINE") || strings.Contains(l.Args[1], at.User.String()) {
		w.t.Error("the environment or the profile holds what it should not")
	}
}

func connectStatus(t *testing.T, proxy, target, auth string) int {
	c, err := net.DialTimeout("tcp", proxy, 10*time.Second)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Host: target}, Host: target, Header: http.Header{}}
	if user, password, ok := strings.Cut(auth, ":"); ok {
		req.SetBasicAuth(user, password)
		req.Header.Set("Proxy-Authorization", req.Header.Get("Authorization"))
		req.Header.Del("Authorization")
	}
	if err := req.Write(c); err != nil {
		t.Error(err)
		return 0
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		t.Error(err)
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// socksReply gives all that a SOCKS5 proxy says after it has chosen passwords.
func socksReply(t *testing.T, proxy, user, password, host string) []byte {
	c, err := net.DialTimeout("tcp", proxy, 10*time.Second)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte{5, 1, 2})
	if chosen := make([]byte, 2); readFull(t, c, chosen) && chosen[1] != 2 {
		t.Errorf("chose %v without a password", chosen)
	}
	c.Write(slices.Concat([]byte{1, byte(len(user))}, []byte(user), []byte{byte(len(password))}, []byte(password)))
	status := make([]byte, 2)
	if !readFull(t, c, status) || status[1] != 0 {
		return status
	}
	c.Write(slices.Concat([]byte{5, 1, 0, 3, byte(len(host))}, []byte(host), []byte{1, 187}))
	reply := make([]byte, 2)
	readFull(t, c, reply)
	return append(status, reply...)
}

func readFull(t *testing.T, r io.Reader, b []byte) bool {
	_, err := io.ReadFull(r, b)
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

func TestNothingStartsOnMacOSWithoutItsBoundary(t *testing.T) {
	for _, tt := range []struct{ mode, yaml, want string }{
		{"nested", "", "already inside a sandbox"},
		{"bad-profile", "", "does not compile"},
		{"not-admin", "require: {audit: true}\n", "requires a complete record"},
		{"", "filesystem: {denyRead: [\"/x/é*\"]}\n", "only ASCII"},
		{"", "require: {tier: lsm}\n", "requires tier lsm"},
		{"", "network: {httpProxyPort: 8080}\n", "not supported yet"},
	} {
		t.Run(tt.mode+tt.want, func(t *testing.T) {
			w := newMacWorld(t, tt.mode, tt.yaml)
			_, err := w.run(context.Background(), "sh", "-c", "exit 0")
			var e *Error
			if !errors.As(err, &e) || e.Status != 125 || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v", err)
			}
			if w.launched != nil {
				t.Error("the command was started")
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestWithoutTheLogARunSaysWhatItDoesNotRecord(t *testing.T) {
	w := newMacWorld(t, "not-admin", "")
	result, err := w.run(context.Background(), "sh", "-c", "exit 0")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(w.warned, "\n"); !strings.Contains(text, "not recorded") || !strings.Contains(text, "administrator") {
		t.Errorf("warned %q", w.warned)
	}
	if text := strings.Join(result.Summary.NotRecorded, "\n"); !strings.Contains(text, "files, sockets and services") {
		t.Errorf("not recorded: %s", text)
	}
}

func TestCommandsThatCannotRunHaveAShellsStatus(t *testing.T) {
	w := newMacWorld(t, "", "")
	plain := filepath.Join(w.dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"no-such-command": 127, "./nothing": 127, plain: 126, w.dir: 126, "./plain": 126} {
		_, err := w.run(context.Background(), command)
		var e *Error
		if !errors.As(err, &e) || e.Status != want {
			t.Errorf("%s: %v, want %d", command, err, want)
		}
	}
}

func TestSignalsReachTheCommandOnMacOS(t *testing.T) {
	w := newMacWorld(t, "", "")
	w.during = func(*macWorld) {
		w.waitFile("ready")
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}
	result, err := w.run(context.Background(), "sh", "-c", `trap 'exit 42' TERM; : > ready; while :; do sleep 0.02; done`)
	if err != nil || result.Status != 42 {
		t.Errorf("%+v, %v", result, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.during = func(*macWorld) { cancel() }
	if result, err = w.run(ctx, "sh", "-c", "sleep 60"); err != nil || result.Status != 128+9 {
		t.Errorf("cancelled: %+v, %v", result, err)
	}
}

func TestCtrlZStopsTheCommandAndContinuingContinuesItOnMacOS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks for a stopped process in /proc")
	}
	w := newMacWorld(t, "", "")
	w.during = func(*macWorld) {
		w.waitFile("ready")
		syscall.Kill(os.Getpid(), syscall.SIGTSTP)
	}
	// It starts no program: one that is stopped between vfork(2) and execve(2) would
	// keep the shell from being stopped.
	result, err := w.run(context.Background(), "sh", "-c", `trap 'exit 42' CONT; : > ready; while :; do :; done`)
	if err != nil || result.Status != 42 || w.stopped != 1 {
		t.Errorf("%+v, %v, stopped %d times", result, err, w.stopped)
	}
}

func TestACommandThatRunsOutOfTimeIsEndedOnMacOS(t *testing.T) {
	w := newMacWorld(t, "", "")
	w.timeout = 100 * time.Millisecond
	result, err := w.run(context.Background(), "sh", "-c", "sleep 300")
	if err != nil || result.Status != 124 || !result.TimedOut || result.Summary.Exit != 124 {
		t.Errorf("%+v, %v", result, err)
	}
	w.timeout = time.Hour
	if result, err = w.run(context.Background(), "sh", "-c", "exit 5"); err != nil || result.Status != 5 || result.TimedOut {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestNoProcessOutlivesARunOnMacOS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks for processes in /proc")
	}
	w := newMacWorld(t, "", "")
	w.during = func(*macWorld) {
		w.waitFile("left")
		at := w.looked.Load()
		waitUntil(t, func() bool { return w.looked.Load() >= at+3 }) // one is the list's; the tracker's second began after it was there
		w.done()
	}
	if _, err := w.run(context.Background(), "sh", "-c", "sleep 300 & echo $! > left; "+untilDone); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(w.dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	if stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("still there: %s", stat)
	}
}

func TestDoctorOnMacOSTriesAndTellsTheLimits(t *testing.T) {
	for _, tt := range []struct {
		mode string
		can  bool
		want string
	}{
		{"", true, "trial run ok"},
		{"not-admin", true, "trial run less"},
		{"nested", false, "sandbox-exec missing"},
		{"bad-profile", false, "trial run missing"},
	} {
		w := newMacWorld(t, tt.mode, "")
		d := macDoctor(context.Background(), w)
		var all []string
		for _, f := range d.Findings {
			all = append(all, f.Name+" "+string(f.State))
			t.Log(f.Name, f.State, f.Found)
		}
		if d.CanRun() != tt.can || !slices.Contains(all, tt.want) || !slices.Contains(all, "capture less") {
			t.Errorf("%s: %v", tt.mode, all)
		}
		if (d.Tier == event.TierSeatbelt) != tt.can {
			t.Errorf("%s: tier %v", tt.mode, d.Tier)
		}
	}
}

func TestSuggestionsOnMacOSOpenNoSecrets(t *testing.T) {
	p, err := policy.New(policy.Env{Home: "/Users/u", Cwd: "/Users/u/proj"})
	if err != nil {
		t.Fatal(err)
	}
	service := func(name event.Text) event.Event {
		return event.Event{Operation: event.SysRefused, Object: event.Object{Syscall: "mach-lookup", Ref: name}}
	}
	for _, tt := range []struct {
		e    event.Event
		want string
	}{
		{service("com.example.x"), "network.allowMachLookup: [com.example.x]"},
		{service("com.example.x (xpc)"), "network.allowMachLookup: [com.example.x]"},
		{service("com.apple.SecurityServer"), ""},
		{service("com.apple.coreservices.launchservicesd"), ""},
		{service("a\nb: [x]"), ""},
		{event.Event{Operation: event.SysRefused, Object: event.Object{Syscall: "sysctl-read", Ref: "x"}}, ""},
		{event.Event{Operation: event.NetBind, Object: event.Object{Port: 3000}}, "network.allowLocalBinding: true"},
		{event.Event{Operation: event.UnixConnect, Object: event.Object{Path: "/x"}}, `network.allowUnixSockets: ["/x"]`},
		{event.Event{Operation: event.FileRead, Object: event.Object{Path: "/Users/u/.ssh/id"}}, ""},
		{event.Event{Operation: event.NetConnect, Object: event.Object{Port: 443, Socket: "remote:*:443"}}, ""},
	} {
		if got := macSuggest(p, tt.e); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.e.Object, got, tt.want)
		}
	}
	write := event.Event{Operation: event.FileWrite, Object: event.Object{Path: "/opt/x"}}
	if got := macSuggest(p, write); !strings.Contains(got, "allowWrite") {
		t.Errorf("write: %q", got)
	}
}
