package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
)

// helperEnv names a function of this binary to run instead of the tests, for
// attacks that no ordinary program makes.
const helperEnv = "SALLYPORT_E2E_HELPER"

// hang is when sallyport counts as hanging: long for a virtual machine without KVM
// on a host that is busy.
const hang = 4 * time.Minute

// helpers are registered by init functions beside the tests that use them.
var helpers = map[string]func(){}

// home is one user's place for one test: $HOME, a working directory below it
// and what the runs there have recorded.
type home struct {
	t        *testing.T
	dir      string // $HOME
	work     string // working directory
	uid, gid int
	env      []string // added to the environment of sallyport
	policy   string   // path, if written
	binary   string   // sallyport, if another
	wrap     []string // conditions of a bad host, see badhost_linux_test.go
	lower    bool     // no keeper: what the test is about is another tier
	// The standard streams of the next run; nil: /dev/null, and buffers.
	stdin, stdout, stderr *os.File
	extra                 []*os.File // further descriptors
}

// newHome makes a home for the ordinary user and forgets what the far side has
// seen.
func newHome(t *testing.T) *home {
	t.Helper()
	uid, gid := ordinary()
	return newHomeOf(t, uid, gid)
}

func newHomeOf(t *testing.T, uid, gid int) *home {
	t.Helper()
	h := &home{t: t, uid: uid, gid: gid}
	dir, err := os.MkdirTemp(base, "home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h.dir, h.work = dir, filepath.Join(dir, "work")
	h.mkdir("work")
	h.own(dir)
	internet.reset()
	return h
}

func (h *home) own(path string) {
	h.t.Helper()
	if err := os.Lchown(path, h.uid, h.gid); err != nil {
		h.t.Fatal(err)
	}
}

// mkdir makes a directory below $HOME.
func (h *home) mkdir(rel string) string {
	h.t.Helper()
	cur := h.dir
	for _, part := range strings.Split(rel, "/") {
		cur = filepath.Join(cur, part)
		if err := os.Mkdir(cur, 0o755); err == nil {
			h.own(cur)
		} else if !os.IsExist(err) {
			h.t.Fatal(err)
		}
	}
	return cur
}

// write makes a file below $HOME.
func (h *home) write(rel, content string) string {
	h.t.Helper()
	h.mkdir(filepath.Dir(rel))
	path := filepath.Join(h.dir, rel)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.own(path)
	return path
}

// read gives a file's content, "" if there is none.
func (h *home) read(rel string) string {
	b, err := os.ReadFile(filepath.Join(h.dir, rel))
	if err != nil {
		return ""
	}
	return string(b)
}

// allow writes a policy that allows names, and uses it from now on.
func (h *home) allow(domains ...string) *home {
	list, _ := json.Marshal(append([]string{}, domains...)) // never null
	return h.usePolicy(fmt.Sprintf("network:\n  allowedDomains: %s\n", list))
}

func (h *home) usePolicy(text string) *home {
	h.t.Helper()
	h.policy = h.write("policy.yaml", text)
	return h
}

// result is how a run of sallyport ended.
type result struct {
	t        *testing.T
	code     int
	out, err string
	events   []event.Event
}

// run runs a command in a sandbox, as the ordinary user.
func (h *home) run(argv ...string) *result { return h.runWith(nil, argv...) }

// sh runs a shell script in a sandbox.
func (h *home) sh(script string) *result { return h.runWith(nil, "sh", "-c", script) }

// runWith is run with flags of sallyport run.
func (h *home) runWith(flags []string, argv ...string) *result {
	h.t.Helper()
	args := []string{"run"}
	if h.policy != "" {
		args = append(args, "--policy", h.policy)
	}
	args = append(append(append(args, flags...), "--"), argv...)
	return h.sallyport(args...)
}

// helper runs a function of this test binary in a sandbox.
func (h *home) helper(name string, args ...string) *result {
	h.t.Helper()
	return h.helperWith(nil, name, args...)
}

// helperWith is helper with flags of sallyport run.
func (h *home) helperWith(flags []string, name string, args ...string) *result {
	h.t.Helper()
	flags = append([]string{"-e", helperEnv + "=" + name}, flags...)
	return h.runWith(flags, append([]string{h.helperPath()}, args...)...)
}

// helperPath is this test binary where the sandbox can see it.
func (h *home) helperPath() string {
	h.t.Helper()
	exe := filepath.Join(base, "helper")
	if _, err := os.Stat(exe); err == nil {
		return exe
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(exe, self, 0o755)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return exe
}

// command is sallyport as the ordinary user would start it.
func (h *home) command(ctx context.Context, args ...string) *exec.Cmd {
	if h.binary != "" {
		return h.program(ctx, h.binary, args...)
	}
	return h.program(ctx, binary, args...)
}

// program is a program as the ordinary user would start it, without a sandbox.
func (h *home) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	env := append([]string{"HOME=" + h.dir, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
		"SSL_CERT_FILE=" + internet.ca, "CURL_CA_BUNDLE=" + internet.ca, "NODE_EXTRA_CA_CERTS=" + internet.ca,
		"GIT_SSL_CAINFO=" + internet.ca}, h.env...)
	cred := &syscall.Credential{Uid: uint32(h.uid), Gid: uint32(h.gid)}
	if h.hasKeeper() {
		env = append(env, tierEnv+"="+os.Getenv(tierEnv))
	}
	if len(h.wrap) > 0 || os.Getuid() != 0 || h.hasKeeper() && (name == binary || h.binary == name) && len(args) > 0 && args[0] == "run" {
		// It changes the user itself, or takes the test's capabilities away.
		args = append(append(append([]string{strconv.Itoa(h.uid), strconv.Itoa(h.gid)}, h.wrap...), "--", name), args...)
		env = append(env, helperEnv+"="+wrapHelper)
		name, cred = h.helperPath(), nil
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = h.work, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: cred}
	return cmd
}

// sallyport runs the binary and collects what it recorded.
func (h *home) sallyport(args ...string) *result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	before := len(h.events())
	cmd := h.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &errOut, h.extra
	if h.stdin != nil {
		cmd.Stdin = h.stdin
	}
	if h.stdout != nil {
		cmd.Stdout = h.stdout
	}
	if h.stderr != nil {
		cmd.Stderr = h.stderr
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		h.t.Fatalf("sallyport %q hangs\n%s%s", args, out.String(), errOut.String())
	}
	if cmd.ProcessState == nil {
		h.t.Fatalf("start sallyport: %v", err)
	}
	events := h.events()
	return &result{t: h.t, code: cmd.ProcessState.ExitCode(), out: out.String(), err: errOut.String(), events: events[before:]}
}

// events reads the record as a user would.
func (h *home) events() []event.Event {
	h.t.Helper()
	reader := *h
	reader.wrap, reader.binary = nil, ""
	reader.env = append(slices.Clone(h.env), "HOME="+h.dir)
	cmd := reader.command(context.Background(), "audit", "query", "--all", "-o", "json")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil && errOut.Len() > 0 {
		h.t.Fatalf("audit query: %v: %s", err, errOut.String())
	}
	var events []event.Event
	for line := range bytes.Lines(out) {
		var e event.Event
		if err := json.Unmarshal(line, &e); err != nil {
			h.t.Fatalf("audit query printed %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// ok fails the test unless the command succeeded.
func (r *result) ok() *result {
	r.t.Helper()
	if r.code != 0 {
		r.t.Fatalf("exit status %d\n%s%s", r.code, r.out, r.err)
	}
	return r
}

// refused fails the test if the command succeeded, or if sallyport itself
// failed.
func (r *result) refused() *result {
	r.t.Helper()
	if r.code == 0 || r.code == 125 {
		r.t.Fatalf("exit status %d, want the command's own failure\n%s%s", r.code, r.out, r.err)
	}
	return r
}

func describe(events []event.Event) string {
	var b strings.Builder
	for _, e := range events {
		j, _ := json.Marshal(e)
		fmt.Fprintf(&b, "  %s\n", j)
	}
	return b.String()
}
