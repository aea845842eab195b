package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func init() {
	helpers["grab"] = grab
}

// grab looks at a file again and again until a file named stop appears, and
// prints each time in nanoseconds at which it could have written it, or with
// "read" at which it was to be seen. It does not open it: that would end it.
func grab() {
	bare := func() bool { return unix.Access(os.Args[1], unix.W_OK) == nil }
	if os.Args[2] == "read" {
		bare = func() bool { fi, err := os.Stat(os.Args[1]); return err == nil && fi.Mode().IsRegular() }
	}
	os.WriteFile("ready", nil, 0o644)
	for {
		if bare() {
			fmt.Println(time.Now().UnixNano())
		}
		if _, err := os.Stat("stop"); err == nil {
			return
		}
	}
}

// replaced runs grab while the host replaces a file, and gives for each time how
// long after it the file could still be opened inside.
func (h *home) replaced(file, how string, times int, replace func(i int)) (windows []time.Duration) {
	h.t.Helper()
	args := append(h.runArgs(), h.helperPath(), file, how)
	args = slices.Insert(args, 1, "-e", helperEnv+"=grab")
	cmd := h.command(h.t.Context(), args...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	waitFor(h.t, "the command to be ready", func() bool { return exists(h.work + "/ready") })
	var at []int64
	for i := range times {
		at = append(at, time.Now().UnixNano())
		replace(i)
		time.Sleep(60 * time.Millisecond)
	}
	h.write("work/stop", "")
	if err := cmd.Wait(); err != nil {
		h.t.Fatalf("inside: %v\n%s", err, errOut.String())
	}
	os.Remove(h.work + "/stop")
	os.Remove(h.work + "/ready")
	windows = make([]time.Duration, times)
	for _, line := range strings.Fields(out.String()) {
		got, _ := strconv.ParseInt(line, 10, 64)
		i := len(at) - 1
		for i > 0 && at[i] > got {
			i--
		}
		windows[i] = max(windows[i], time.Duration(got-at[i]))
	}
	slices.Sort(windows)
	h.t.Logf("bare for: median %s, 95th percentile %s, longest %s", windows[times/2], windows[times*95/100], windows[times-1])
	return windows
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tampered lists the paths of which a tamper event tells.
func (h *home) tampered() (paths []string) {
	h.t.Helper()
	for _, e := range h.events() {
		if e.Reason == event.Tampered {
			paths = append(paths, string(e.Object.Path))
		}
	}
	return paths
}

// atomically saves a file as careful programs do.
func (h *home) atomically(rel, content string) {
	h.t.Helper()
	if err := os.Rename(h.write(rel+".new", content), filepath.Join(h.dir, rel)); err != nil {
		h.t.Fatal(err)
	}
}

// tooLong is far above what is measured (some milliseconds on a busy machine),
// and far below the pause between two replacements.
const tooLong = 50 * time.Millisecond

func TestAReplacedProtectedFileIsCoveredAgain(t *testing.T) {
	h := newHome(t)
	rc := h.write("work/.bashrc", "0")
	before := len(h.events())
	windows := h.replaced(rc, "write", 20, func(i int) { h.atomically("work/.bashrc", fmt.Sprint(i)) })
	if w := windows[len(windows)/2]; w > tooLong {
		t.Errorf("a replaced file could be written for %s", w)
	}
	if got := h.read("work/.bashrc"); got != "19" {
		t.Errorf("the file holds %q", got)
	}
	if !slices.Contains(h.tampered(), rc) {
		t.Errorf("not in the record:\n%s", describe(h.events()[before:]))
	}
}

func TestAReplacedSecretIsCoveredAgain(t *testing.T) {
	h := newHome(t)
	h.write(".netrc", "old")
	windows := h.replaced(h.dir+"/.netrc", "read", 20, func(i int) { h.atomically(".netrc", fmt.Sprint(i)) })
	if w := windows[len(windows)/2]; w > tooLong {
		t.Errorf("a replaced file could be read for %s", w)
	}
}

func TestAReplacedHiddenDirectoryIsCoveredAgain(t *testing.T) {
	h := newHome(t)
	key := h.write(".ssh/id_ed25519", "key")
	windows := h.replaced(key, "read", 5, func(i int) {
		if err := os.Rename(h.dir+"/.ssh", fmt.Sprintf("%s/.ssh-%d", h.dir, i)); err != nil {
			t.Error(err)
		}
		h.write(".ssh/id_ed25519", "key")
	})
	if w := windows[len(windows)/2]; w > tooLong {
		t.Errorf("a replaced directory could be read for %s", w)
	}
	for i := range 5 {
		if _, err := os.Stat(fmt.Sprintf("%s/.ssh-%d/id_ed25519", h.dir, i)); err != nil {
			t.Error(err)
		}
	}
	if !slices.Contains(h.tampered(), h.dir+"/.ssh") {
		t.Errorf("not in the record:\n%s", describe(h.events()))
	}
}

// steps is a shell inside that runs one script after the other.
type steps struct {
	h    *home
	cmd  *exec.Cmd
	out  strings.Builder
	done int
}

func (h *home) steps() *steps {
	h.t.Helper()
	s := &steps{h: h, cmd: h.command(h.t.Context(), append([]string{"run", "--quiet"}, h.runArgs("sh", "-c", `i=0; while :; do
		while [ ! -e step.$i ]; do sleep 0.005; done
		. ./step.$i; i=$((i+1)); echo done > did.new; mv did.new did.$i; done`)[1:]...)...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// do runs a script inside and returns when it has ended.
func (s *steps) do(script string) *steps {
	s.h.t.Helper()
	s.h.atomically(fmt.Sprintf("work/step.%d", s.done), script)
	s.done++
	waitFor(s.h.t, "step "+script, func() bool { return exists(fmt.Sprintf("%s/did.%d", s.h.work, s.done)) })
	return s
}

func (s *steps) end() string {
	s.h.t.Helper()
	s.h.atomically(fmt.Sprintf("work/step.%d", s.done), "exit 0")
	if err := s.cmd.Wait(); err != nil {
		s.h.t.Errorf("inside: %v\n%s", err, s.out.String())
	}
	return s.out.String()
}

// settles waits until a tamper event tells of a path, n times in all.
func (h *home) settles(path string) {
	h.t.Helper()
	waitFor(h.t, "a tamper event for "+path, func() bool { return slices.Contains(h.tampered(), path) })
}

func TestMasksHoldWhenGitAndEditorsReplaceFilesOutside(t *testing.T) {
	for name, test := range map[string]struct{ file, script string }{
		"git config":          {".git/config", "git config user.name Other"},
		"git remote":          {".git/config", "git remote add origin https://example.com/x"},
		"sed -i":              {".git/config", "sed -i s/bare/bare/ .git/config"},
		"an editor's backup":  {".git/config", "mv .git/config .git/config~; cp .git/config~ .git/config"},
		"vim":                 {".git/config", "vi -u NONE -es -c 'set backupcopy=no' -c 'normal Go#x' -c wq .git/config"},
		"exchange of names":   {".git/config", "cp .git/config .git/other; python3 -c 'import ctypes; l=ctypes.CDLL(None); exit(-l.renameat2(-100, b\".git/config\", -100, b\".git/other\", 2))'"},
		"another hooks":       {".git/hooks", "mv .git/hooks .git/old; mkdir .git/hooks"},
		"another repository":  {".git/config", "cp -a .git new; mv .git was; mv new .git"},
		"a checkout of hooks": {".git/hooks", "rm -rf .git/hooks; mkdir .git/hooks"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.repository()
			path := h.work + "/" + test.file
			s := h.steps().do("! touch .git/config 2>/dev/null && ! touch .git/hooks/x 2>/dev/null || echo bare at first")
			h.outside(test.script)
			h.settles(path)
			s.do("! touch .git/config 2>/dev/null || echo config is bare").
				do("! touch .git/hooks/x 2>/dev/null || echo hooks are bare").
				do("! mv .git away 2>/dev/null || echo .git is bare").
				do("! mv .git/config away 2>/dev/null || echo config can be renamed").
				do("git status --short >/dev/null && git commit -q --allow-empty -m inside || echo git does not work")
			if out := s.end(); out != "" {
				t.Errorf("inside: %s", out)
			}
			h.noPlaceholders()
		})
	}
}

func TestARemovedHookDirectoryIsReplacedByAPlaceholder(t *testing.T) {
	h := newHome(t)
	h.repository()
	hooks := h.work + "/.git/hooks"
	s := h.steps().do("true")
	h.outside("rm -rf .git/hooks")
	h.settles(hooks)
	s.do("! mkdir .git/hooks 2>/dev/null && ! touch .git/hooks/pre-commit 2>/dev/null || echo bare")
	if out := s.end(); out != "" {
		t.Errorf("inside: %s", out)
	}
	if _, err := os.Lstat(hooks); err == nil {
		t.Error("the placeholder is left")
	}
	h.noPlaceholders()
}

func TestAProcessThatOpenedABareFileIsEnded(t *testing.T) {
	h := newHome(t)
	rc := h.write("work/.bashrc", "0")
	// It keeps the first descriptor that it gets.
	cmd := h.command(t.Context(), h.runArgs("python3", "-c", `
import os, time
open("ready", "w").close()
while True:
    try: f = open(".bashrc", "a")
    except OSError: continue
    open("got", "w").close()
    time.sleep(60)`)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { return exists(h.work + "/ready") })
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(20 * time.Second); ; {
		h.atomically("work/.bashrc", "1")
		select {
		case <-ended:
			if code := cmd.ProcessState.ExitCode(); code != 137 {
				t.Errorf("exit status %d", code)
			}
			found := false
			for _, e := range h.events() {
				found = found || e.Reason == event.Tampered && string(e.Object.Path) == rc && e.Process != nil && strings.HasPrefix(string(e.Process.Comm), "python3")
			}
			if !found {
				t.Errorf("nobody is named:\n%s", describe(h.events()))
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			<-ended
			if exists(h.work + "/got") {
				t.Fatal("a process has the bare file open, and goes on")
			}
			t.Skip("the race was not won in this time: nothing was opened, so nothing to judge")
		}
	}
}

func TestEverythingInsideStandsStillWhileAMaskIsMissing(t *testing.T) {
	h := newHome(t)
	h.repository()
	// One process stopped by itself must stay so; one that counts makes a pause.
	script := `sleep 777 & kill -STOP $!; echo $! > stopped
		exec python3 -c '
import os, signal, time
signal.signal(signal.SIGCONT, lambda *a: open("continued", "w").close())
pid = open("stopped").read().strip()
state = lambda: open("/proc/%s/stat" % pid).read().split()[2]
while state() != "T": time.sleep(0.01)
last = time.monotonic(); longest = 0
open("ready", "w").close()
while not os.path.exists("stop"):
    now = time.monotonic(); longest = max(longest, now - last); last = now
print(max(longest, time.monotonic() - last), state())'`
	cmd := h.command(t.Context(), h.runArgs("sh", "-c", script)...)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { return exists(h.work + "/ready") })
	h.outside("rm -rf .git/hooks")
	h.settles(h.work + "/.git/hooks")
	waitFor(t, "the command to go on", func() bool { return exists(h.work + "/continued") })
	h.write("work/stop", "")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	var longest float64
	var state string
	fmt.Sscan(out.String(), &longest, &state)
	if longest < 0.09 {
		t.Errorf("the command never stood still for longer than %.3f s", longest)
	}
	if state != "T" {
		t.Errorf("a process that had been stopped before is in state %s", state)
	}
	h.noPlaceholders()
}

func TestAProcessGroupThatIsStoppedIsNotTakenForAStopOfTheRun(t *testing.T) {
	h := newHome(t)
	rc := h.write("work/.bashrc", "0")
	s := h.shellOnScreen()
	s.types("sp sh -c 'touch ready; while [ ! -e go ]; do sleep 0.01; done; echo it went on'\n")
	waitFor(t, "the command", func() bool { return exists(h.work + "/ready") })
	for i := range 5 {
		h.atomically("work/.bashrc", fmt.Sprint(i))
		time.Sleep(20 * time.Millisecond)
	}
	h.settles(rc)
	h.write("work/go", "")
	s.wants("it went on").wants("ready$ ")
	s.types("jobs; echo none\n").wants("none")
	if text := s.text(); strings.Contains(text, "Stopped") {
		t.Errorf("the run was stopped:\n%s", text)
	}
}

func TestAFileThatIsReplacedWithoutAPauseEndsNothing(t *testing.T) {
	h := newHome(t)
	rc := h.write("work/.bashrc", "0")
	s := h.steps().do("true")
	for i := range 300 {
		h.atomically("work/.bashrc", fmt.Sprint(i))
	}
	h.settles(rc)
	waitFor(t, "the file to be covered", func() bool { s.do("! touch .bashrc 2>/dev/null && touch covered"); return exists(h.work + "/covered") })
	if out := s.end(); out != "" {
		t.Errorf("inside: %s", out)
	}
}
