package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport"
)

func init() {
	helpers["crowd"] = crowd
	helpers["sequence"] = sequence
}

// long says that the tests of many runs are to take their time ('make
// test-many').
func long() bool { return os.Getenv("SALLYPORT_E2E_LONG") != "" }

// crowd is one of many: it takes names and ports that the others take, too, and
// tells whether it meets itself there.
func crowd() {
	number := os.Args[1]
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fail(os.WriteFile("/tmp/mine", []byte(number), 0o600))
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, number) })
	var listeners []net.Listener
	for _, at := range [][2]string{{"tcp", "127.0.0.1:8080"}, {"tcp", "[::1]:3000"}, {"unix", "/tmp/socket"}, {"unix", "@socket"}} {
		l, err := net.Listen(at[0], at[1])
		fail(err)
		listeners = append(listeners, l)
		go func() { _ = http.Serve(l, hello) }()
	}
	fmt.Println("ready")
	_, _ = io.ReadFull(os.Stdin, make([]byte, 1))
	for _, l := range listeners {
		addr := l.Addr()
		tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial(addr.Network(), addr.String())
		}}
		resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://me/")
		fail(err)
		got, err := io.ReadAll(resp.Body)
		fail(err)
		resp.Body.Close()
		if string(got) != number {
			fail(fmt.Errorf("%s is %s's", addr, got))
		}
	}
	if got, err := os.ReadFile("/tmp/mine"); err != nil || string(got) != number {
		fail(fmt.Errorf("/tmp/mine: %q, %v", got, err))
	}
	if tryGet([]string{"http://denied-" + number + ".test/"}) == nil {
		fail(fmt.Errorf("denied-%s.test is reached", number))
	}
	fail(tryGet([]string{"http://allowed.test/"}))
}

func TestManySandboxesAtOnceAreKeptApart(t *testing.T) {
	many := 20
	if long() {
		many = 50
	}
	h := newHome(t).allow("allowed.test")
	before := descendants(t)
	start := time.Now()
	boxes := make([]*background, many)
	for i := range boxes {
		boxes[i] = h.launch("crowd", strconv.Itoa(i))
	}
	for i, b := range boxes {
		if line, err := b.out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("%d printed %q: %v", i, line, err)
		}
	}
	up := time.Since(start)
	waitFor(t, "all to be listed", func() bool { return len(h.ps()) == many })
	if list := h.ps(); len(list) != many || len(slices.CompactFunc(list, func(a, b listed) bool { return a.ID == b.ID })) != many {
		t.Errorf("%d are listed", len(list))
	}
	shared, processes := memory(t, before)
	var group sync.WaitGroup
	outs := make([]string, many)
	for i, b := range boxes {
		group.Go(func() {
			_, _ = b.stdin.Write([]byte{1})
			outs[i] = b.stop()
		})
	}
	group.Wait()
	t.Logf("%d at once: up in %s (%s each), %d processes, %d KiB each (proportional set size), over in %s",
		many, up.Round(time.Millisecond), (up / time.Duration(many)).Round(time.Microsecond), processes, shared/many, time.Since(start).Round(time.Millisecond))
	for i, b := range boxes {
		if code := b.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%d: exit status %d: %s", i, code, outs[i])
		}
	}
	h.nothingLeft(before)
	h.eachHasItsOwnRecord(many)
}

// eachHasItsOwnRecord wants the denial of each of the crowd once, under an id of
// its own.
func (h *home) eachHasItsOwnRecord(many int) {
	h.t.Helper()
	owner := map[string]string{} // of a denied name, and the other way round
	for _, e := range h.events() {
		if !e.Verdict.Denied() {
			continue
		}
		host := string(e.Object.Host)
		if id := owner[host]; id != "" && id != e.Sandbox.ID || owner[e.Sandbox.ID] != "" && owner[e.Sandbox.ID] != host {
			h.t.Errorf("%s is in the record of %s and of %s", host, id, e.Sandbox.ID)
		}
		owner[host], owner[e.Sandbox.ID] = e.Sandbox.ID, host
	}
	for i := range many {
		if owner["denied-"+strconv.Itoa(i)+".test"] == "" {
			h.t.Errorf("the denial of %d is not recorded", i)
		}
	}
	if len(owner) != 2*many {
		h.t.Errorf("%d names and sandboxes in the record, want %d", len(owner), 2*many)
	}
}

// memory adds up the processes that were not there before, in KiB.
func memory(t *testing.T, before map[int]process) (pss, count int) {
	t.Helper()
	for pid := range descendants(t) {
		if _, old := before[pid]; old {
			continue
		}
		count++
		pss += pssOf(pid)
	}
	return pss, count
}

// pssOf reads /proc/PID/smaps_rollup (Linux 4.14); 0 of a process that may not
// be looked at, as process 1 of a sandbox by an ordinary user.
func pssOf(pid int) int {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) == 3 && fields[0] == "Pss:" {
			n, _ := strconv.Atoi(fields[1])
			return n
		}
	}
	return 0
}

// ownUser makes a home for a user whom no other test has, where that can be:
// what he leaves on the host is this test's.
func ownUser(t *testing.T) (h *home, alone bool) {
	t.Helper()
	if os.Getuid() != 0 {
		return newHome(t), false
	}
	return newHomeOf(t, 61005, 61005), true
}

// traces lists what a run could leave on a host: mounts, files and keys.
func (h *home) traces(alone bool) map[string]bool {
	h.t.Helper()
	found := map[string]bool{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		found["mount "+strings.TrimSpace(line)] = true
	}
	look := func(dir string, all bool) {
		_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			if err != nil {
				return filepath.SkipDir
			}
			if fi, err := d.Info(); err == nil && (all || fi.Sys().(*syscall.Stat_t).Uid == uint32(h.uid)) {
				found["file "+name] = true
			}
			return nil
		})
	}
	look(h.dir, true)
	for _, dir := range []string{"/tmp", "/var/tmp", "/run", "/dev/shm"} {
		if alone {
			look(dir, false)
		}
	}
	return found
}

// keys counts a user's (proc_key_users(5)).
func (h *home) keys() int {
	b, _ := os.ReadFile("/proc/key-users")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == strconv.Itoa(h.uid)+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

func TestManyRunsInSequenceLeaveNothing(t *testing.T) {
	many := 100
	if long() {
		many = 5000
	}
	h, alone := ownUser(t)
	h.repository() // so that there are placeholders to make and to remove
	h.run("true").ok()
	before, procs, kernel := h.traces(alone), descendants(t), kernelMemory()
	start := time.Now()
	for i := range many {
		cmd := h.command(context.Background(), "run", "--", "true")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("run %d: %v\n%s", i, err, out)
		}
		if n := i + 1; n == many/10 || n == many {
			t.Logf("after %d runs: %s each; the kernel has %s", n, (time.Since(start) / time.Duration(n)).Round(10*time.Microsecond), kernelMemory())
		}
	}
	t.Logf("before: the kernel had %s", kernel)
	h.nothingLeft(procs)
	for what := range h.traces(alone) {
		if !before[what] {
			t.Errorf("left behind: %s", what)
		}
	}
	h.noPlaceholders()
	if alone { // the kernel collects them in its own time
		waitFor(t, "the runs' keyrings to go", func() bool { return h.keys() <= 4 })
	}
}

// kernelMemory is for people to read: other programs use it, too.
func kernelMemory() string {
	b, _ := os.ReadFile("/proc/meminfo")
	var out []string
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); slices.Contains([]string{"MemAvailable", "SUnreclaim", "Percpu"}, name) {
			out = append(out, name+" "+strings.TrimSpace(value))
		}
	}
	return strings.Join(out, ", ")
}

// sequence makes many runs from one process and prints what it holds after a
// tenth of them, and after all.
func sequence() {
	many, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	for i := range many {
		r, err := sallyport.Run(context.Background(), sallyport.Options{Command: []string{"true"}, Stdin: null, Stdout: null, Stderr: null})
		if err != nil || r.Status != 0 {
			fmt.Printf("run %d: %+v, %v\n", i, r, err)
			os.Exit(1)
		}
		if i+1 == many/10 || i+1 == many {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fds, _ := os.ReadDir("/proc/self/fd")
			tasks, _ := os.ReadDir("/proc/self/task")
			fmt.Println(len(fds), runtime.NumGoroutine(), len(tasks), m.HeapInuse>>10)
		}
	}
}

func TestManyRunsOfOneProcessLeaveNothingInIt(t *testing.T) {
	many := 40
	if long() {
		many = 2000
	}
	h := newHome(t)
	cmd := h.program(t.Context(), "/usr/bin/env", helperEnv+"=sequence", h.helperPath(), strconv.Itoa(many))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var early, late struct{ fds, goroutines, threads, heap int }
	if _, err := fmt.Sscan(string(out), &early.fds, &early.goroutines, &early.threads, &early.heap,
		&late.fds, &late.goroutines, &late.threads, &late.heap); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("after %d: %+v, after %d: %+v", many/10, early, many, late)
	if late.fds > early.fds+5 || late.goroutines > early.goroutines+5 || late.threads > early.threads+10 || late.heap > early.heap+4<<10 {
		t.Errorf("after %d: %+v, after %d: %+v", many/10, early, many, late)
	}
}

// A user may have 200 keys (keyrings(7)), and each run makes a session keyring.
func TestMoreAtOnceThanAUserHasKeys(t *testing.T) {
	if !long() {
		t.Skip("some 250 sandboxes at once: SALLYPORT_E2E_LONG=1")
	}
	h, _ := ownUser(t)
	h.allow("allowed.test")
	var all []*background
	for i := range 250 {
		b := h.launch("crowd", strconv.Itoa(i))
		line, err := b.out.ReadString('\n')
		if line != "ready\n" {
			_ = b.Wait()
			t.Logf("number %d ends with %d: %q, %v", i+1, b.ProcessState.ExitCode(), line, err)
			if b.ProcessState.ExitCode() != 125 {
				t.Error("it is not refused")
			}
			break
		}
		all = append(all, b)
	}
	t.Logf("%d at once", len(all))
	if len(all) < 100 {
		t.Errorf("only %d at once", len(all))
	}
	for _, b := range all {
		b.stop()
	}
	h.run("true").ok()
}
