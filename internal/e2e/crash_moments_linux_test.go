package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { helpers["doomed"] = doomed }

// doomed leaves processes behind, asks for names and addresses that are denied,
// and prints the names of those of which it has an answer.
func doomed() {
	for _, args := range [][]string{{"setsid", "sleep", "777"}, {"sleep", "777"}, {"sh", "-c", "(sleep 777 &) & trap '' TERM HUP INT; sleep 777"}} {
		if err := exec.Command(args[0], args[1:]...).Start(); err != nil {
			fmt.Println(err)
		}
	}
	resolver := net.Resolver{PreferGo: true}
	for i := range 8 {
		name := fmt.Sprintf("n%d.%s.denied.test", i, os.Args[1])
		_, err := resolver.LookupHost(context.Background(), name+".")
		var refused *net.DNSError
		switch {
		case err == nil:
			fmt.Println("resolved")
		case errors.As(err, &refused) && refused.IsNotFound: // an answer, and not the end of who gives it
			fmt.Println(name)
		}
		for _, to := range [][2]string{{"udp", thereV4 + ":5000"}, {"tcp", otherV4 + ":80"}} {
			if c, err := net.Dial(to[0], to[1]); err == nil {
				_, _ = c.Write([]byte(name)) // refused, now or later
				c.Close()
			}
		}
	}
	fmt.Println("done")
}

// crash is one run that is killed at a moment of its life, and what it had
// printed by then.
type crash struct {
	victim string
	after  time.Duration
	killed bool
	names  []string
}

// crashes is how many moments are tried: a few in an ordinary test run.
func crashes(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("SALLYPORT_CRASHES"))
	if err != nil || n <= 0 {
		return 30
	}
	t.Logf("SALLYPORT_CRASHES=%d", n)
	return n
}

// TestACrashAtAnyMomentEndsEverything kills each part of a sandbox at random
// moments of its start, its life and its end.
func TestACrashAtAnyMomentEndsEverything(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	h := newHome(t)
	h.repository()
	h.runtimeDir()
	h.run("true").ok()
	before := h.footprint()
	kills, names := map[string]int{}, []string{}
	whole, inside := h.lifetime()
	t.Logf("a whole run takes %s, %s of it with a sandbox", whole, inside)
	who := slices.Sorted(maps.Keys(victims))
	want, killed := crashes(t), 0
	for i := 0; killed < want && i < 4*want; i++ { // some moments come too early or too late for their victim
		victim, life := who[i%len(who)], inside
		if victim == "supervisor" {
			life = whole
		}
		c := h.crash(victim, h.moment(rnd, life), i)
		if c.killed {
			killed++
			kills[c.victim]++
		}
		names = append(names, c.names...)
		if i%10 == 9 {
			h.run("true").ok() // sweeps
			if after := h.footprint(); after != before {
				t.Errorf("left behind: %q", difference(after, before))
			}
		}
	}
	t.Logf("killed: %v; %d events were acknowledged", kills, len(names))
	for _, v := range []string{"supervisor", "bubblewrap", "stage 2"} { // stage 1 may be too fast
		if kills[v] == 0 {
			t.Errorf("%s was never killed: this tests less than it says", v)
		}
	}
	if len(names) == 0 {
		t.Error("no event was acknowledged: this tests less than it says")
	}
	h.haveEvents(names)
	if got := internet.arrived(); len(got) > 0 {
		t.Errorf("packets arrived outside: %v", got)
	}
	if got := h.outside("git status --short"); got != "" {
		t.Errorf("git status: %q", got)
	}
}

// lifetime is how long a run takes here and now, if nothing gets in its way, and
// how long there is a bubblewrap then.
func (h *home) lifetime() (whole, inside time.Duration) {
	h.t.Helper()
	whole, inside = time.Hour, time.Hour
	for range 3 {
		before, start := descendants(h.t), time.Now()
		cmd := h.command(h.t.Context(), slices.Insert(h.runArgs(h.helperPath(), "whole"), 1, "-e", helperEnv+"=doomed")...)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			h.t.Fatal(err)
		}
		h.appears("bubblewrap", before, cmd.Process.Pid)
		begun := time.Now()
		if err := cmd.Wait(); err != nil || !strings.HasSuffix(out.String(), "done\n") {
			h.t.Fatalf("%v; it says %q", err, out.String())
		}
		whole, inside = min(whole, time.Since(start)), min(inside, time.Since(begun))
	}
	return whole, inside
}

// moment is in the first quarter of a life, at its end or anywhere: most of what
// can go wrong is done in its start and its end.
func (h *home) moment(rnd *rand.Rand, life time.Duration) time.Duration {
	switch rnd.IntN(3) {
	case 0:
		return time.Duration(rnd.Int64N(int64(life / 4)))
	case 1:
		return life*3/4 + time.Duration(rnd.Int64N(int64(life/3)))
	}
	return time.Duration(rnd.Int64N(int64(life)))
}

func (h *home) crash(victim string, after time.Duration, n int) crash {
	h.t.Helper()
	c := crash{victim: victim, after: after}
	before := descendants(h.t)
	cmd := h.command(h.t.Context(), slices.Insert(h.runArgs(h.helperPath(), fmt.Sprintf("r%d", n)), 1, "-e", helperEnv+"=doomed")...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	for pid := range h.victim(victim, after, before, cmd.Process.Pid) {
		c.killed = unix.Kill(pid, unix.SIGKILL) == nil || c.killed
	}
	killed := time.Now()
	_ = cmd.Wait()
	if took := time.Since(killed); c.killed && took > 20*time.Second {
		h.t.Errorf("%s killed after %s: the run took %s to end", victim, after, took)
	}
	h.nothingLeft(before)
	lines := strings.Split(out.String(), "\n")
	whole := strings.HasSuffix(out.String(), "done\n")
	if code := cmd.ProcessState.ExitCode(); code == 0 && !whole || !c.killed && (code != 0 || !whole) {
		h.t.Errorf("%s killed after %s (%v): exit status %d\n%s%s", victim, after, c.killed, code, out.String(), errOut.String())
	}
	for _, l := range lines[:len(lines)-1] {
		if strings.HasPrefix(l, "n") {
			c.names = append(c.names, l)
		} else if l != "done" {
			h.t.Errorf("%s killed after %s: inside: %s", victim, after, l)
		}
	}
	return c
}

// victim waits for its moment and gives those that there are of it: a moment of
// the run for the supervisor, for the others one after they have appeared. Stage 1
// is there for a moment only.
func (h *home) victim(victim string, after time.Duration, before map[int]process, supervisor int) map[int]process {
	h.t.Helper()
	if victim != "supervisor" {
		h.appears(victim, before, supervisor)
	}
	if victim == "stage 1" {
		after %= time.Millisecond
	}
	time.Sleep(after)
	return h.find(victim, before, supervisor)
}

// appears waits until there is a part of a run, or it is too late for it.
func (h *home) appears(victim string, before map[int]process, supervisor int) {
	h.t.Helper()
	for end := time.Now().Add(time.Second * 5); time.Now().Before(end) && len(h.find(victim, before, supervisor)) == 0; {
		if len(h.find("supervisor", before, supervisor)) == 0 {
			return
		}
	}
}

// find gives the processes that are a part of a run.
func (h *home) find(victim string, before map[int]process, supervisor int) map[int]process {
	h.t.Helper()
	found := below(processes(h.t), os.Getpid())
	maps.DeleteFunc(found, func(pid int, p process) bool {
		_, old := before[pid]
		return old || !victims[victim](p, supervisor)
	})
	return found
}

// haveEvents wants an event of each name: an answer is an acknowledgement.
func (h *home) haveEvents(names []string) {
	h.t.Helper()
	have := map[string]bool{}
	for _, e := range h.events() {
		have[string(e.Object.Host)] = true
	}
	for _, n := range names {
		if !have[n] {
			h.t.Errorf("the event for %s is lost", n)
		}
	}
}

func (h *home) runtimeDir() {
	h.t.Helper()
	dir := h.mkdir("runtime")
	if err := os.Chmod(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.env = append(h.env, "XDG_RUNTIME_DIR="+dir)
}

// footprint lists what a run could leave behind: files in the home, but for the
// logs, open sockets, mounts.
func (h *home) footprint() string {
	h.t.Helper()
	var b strings.Builder
	for _, pattern := range []string{h.dir + "/.local/state/sallyport/stubs/*.json", h.dir + "/.local/state/sallyport/quarantine/*", h.dir + "/.local/state/sallyport/audit/.*",
		h.dir + "/runtime/*", h.dir + "/runtime/*/*", h.dir + "/.local/state/sallyport/run*/*", h.dir + "/.[a-z]*", h.work + "/*", h.work + "/.git/*", h.work + "/.git/*/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range found {
			// A socket that its run had not listed yet is removed when it is a minute old.
			if listed := strings.TrimSuffix(f, ".sock") + ".json"; !strings.HasSuffix(f, ".sock") || exists(listed) {
				fmt.Fprintln(&b, f)
			}
		}
	}
	sockets, _ := os.ReadFile("/proc/self/net/unix")
	for line := range strings.Lines(string(sockets)) {
		if strings.Contains(line, h.dir) { // somebody has it open
			b.WriteString(line)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	b.Write(mounts)
	return b.String()
}

// difference lists the lines that only one of two texts has.
func difference(a, b string) (lines []string) {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		for line := range strings.Lines(pair[0]) {
			if !strings.Contains(pair[1], line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func countArgs(list map[int]process, word string) int {
	n := 0
	for _, p := range list {
		if strings.HasPrefix(p.args, word) {
			n++
		}
	}
	return n
}
