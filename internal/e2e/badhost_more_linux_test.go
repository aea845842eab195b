package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryBanOnNamespacesIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		wrap []string
		say  []string
	}{
		"Debian's switch": {[]string{"sysctl=unprivileged_userns_clone:0", "refuse-userns=EPERM"},
			[]string{"kernel.unprivileged_userns_clone=0", "sysctl -w kernel.unprivileged_userns_clone=1"}},
		"Ubuntu's AppArmor, refusing": {[]string{"sysctl=apparmor_restrict_unprivileged_userns:1", "refuse-userns=EACCES"},
			[]string{"kernel.apparmor_restrict_unprivileged_userns=1", "AppArmor profile for sallyport"}},
		"Ubuntu's AppArmor, taking the rights away": {[]string{"sysctl=apparmor_restrict_unprivileged_userns:1", "refuse=mount:EACCES"},
			[]string{"kernel.apparmor_restrict_unprivileged_userns=1", "AppArmor profile for sallyport"}},
		"a container's filter": {[]string{"refuse-userns=EPERM"}, []string{"network namespaces", "container"}},
		"a kernel without":     {[]string{"refuse-userns=EINVAL"}, []string{"network namespaces", "doctor"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.wrap = test.wrap
			before := descendants(t)
			h.run("touch", "started").badHost(test.say...)
			h.notStarted()
			h.nothingLeft(before)
			last := test.say[len(test.say)-1]
			if d := h.doctor(1); !strings.Contains(fmt.Sprint(d.lacks("missing")), last) {
				t.Errorf("doctor does not say %q: %+v", last, d)
			}
		})
	}
}

func TestWithoutProcNothingRuns(t *testing.T) {
	h := newHome(t).rootless() // the wrapper needs /proc to start a keeper
	h.wrap = []string{"hide=/proc"}
	h.run("touch", "started").badHost("/proc", "mount -t proc")
	h.notStarted()
}

func TestAReadOnlyHomeIsNoObstacle(t *testing.T) {
	h := newHome(t)
	h.repository() // with paths to protect
	state, err := os.MkdirTemp(base, "state-")
	if err != nil {
		t.Fatal(err)
	}
	h.own(state)
	h.wrap = []string{"readonly=" + h.dir}
	h.run("touch", "started").badHost("read-only", "XDG_STATE_HOME")
	h.env = append(h.env, "XDG_STATE_HOME="+state)
	h.sh("touch x 2>/dev/null || echo read-only; cat /proc/self/mountinfo >/tmp/x && echo done").ok().says("read-only\ndone\n")
}

// smallDisk mounts a file system of some KiB.
func (h *home) smallDisk(rel string, kib int) string {
	h.t.Helper()
	dir := h.mkdir(rel)
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=700,uid=%d,gid=%d", kib, h.uid, h.gid)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves no room.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; _, err = f.Write(make([]byte, size)) {
		}
	}
}

func TestOnAFullDiskNothingStarts(t *testing.T) {
	h := newHome(t)
	state := h.smallDisk("state", 256)
	fill(t, state)
	h.env = append(h.env, "XDG_STATE_HOME="+state)
	h.run("touch", "started").badHost("no space left", "XDG_STATE_HOME")
	h.notStarted()
}

// What a disk that fills up during a run cannot take is counted, and said.
func TestOnADiskThatFillsUpTheLossIsCounted(t *testing.T) {
	need(t, "bash")
	h := newHome(t)
	state := h.smallDisk("state", 256)
	h.env = append(h.env, "XDG_STATE_HOME="+state)
	const attempts = 40
	script := fmt.Sprintf("touch ready; while [ ! -e go ]; do sleep 0.01; done; for i in $(seq %d); do (exec 3<>/dev/tcp/10.9.8.$i/80) 2>/dev/null; done; touch over; exit 0", attempts)
	cmd := h.command(t.Context(), "run", "--fail-on-denial", "--json-summary", h.dir+"/summary", "--", "bash", "-c", script)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { _, err := os.Stat(h.work + "/ready"); return err == nil })
	waitFor(t, "the run to be listed", func() bool { return len(h.ps()) == 1 })
	fill(t, state)
	h.write("work/go", "")
	_ = cmd.Wait()
	if h.read("work/over") != "" || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errOut.String(), "sallyport: error: the command succeeded, and not everything") {
		t.Errorf("exit status %d\n%s", cmd.ProcessState.ExitCode(), errOut.String())
	}
	if _, err := os.Stat(h.work + "/over"); err != nil {
		t.Error("the command did not go on")
	}
	var sum struct {
		Lost uint64
		Exit int
	}
	if err := json.Unmarshal([]byte(h.read("summary")), &sum); err != nil || sum.Lost == 0 || sum.Exit != 0 {
		t.Errorf("summary: %v\n%s", err, h.read("summary"))
	}
	var known, lost uint64
	for _, e := range h.events() {
		if e.Verdict.Denied() {
			known += e.Count
		}
		lost += e.LostSinceLast
	}
	if known+lost != attempts || lost != sum.Lost {
		t.Errorf("%d attempts: %d in the record, %d lost by the record, %d by the summary", attempts, known, lost, sum.Lost)
	}
}

// A home directory of which root can see nothing, as on NFS.
func TestAHomeThatOnlyItsUserMaySeeIsNoObstacle(t *testing.T) {
	h := newHome(t)
	for _, d := range []string{h.dir, h.work} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.run("touch", "done").ok()
	if os.Getuid() != 0 {
		return
	}
	root := *h
	root.uid, root.gid = 0, 0
	root.wrap = []string{"squash"}
	root.env = append(root.env, "HOME=/root", "XDG_STATE_HOME="+h.dir+"/state")
	if out, err := root.program(t.Context(), "/bin/ls", h.dir).CombinedOutput(); err == nil {
		t.Errorf("root sees the home: %s", out)
	}
	cmd := root.command(t.Context(), "run", "--user", fmt.Sprintf("%d:%d", h.uid, h.gid), "--allow-write", ".", "--", "sh", "-c", "id -u; touch again")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), fmt.Sprint(h.uid)) {
		t.Errorf("%v: %s", err, out)
	}
}

// A file system that cannot lock, as NFS without its lock manager.
func TestARecordThatCannotBeLockedIsRefused(t *testing.T) {
	h := newHome(t)
	h.wrap = []string{"refuse=flock:ENOLCK"}
	h.run("touch", "started").badHost("lock", "XDG_STATE_HOME")
	h.notStarted()
}

func TestOtherRootsAreNoObstacle(t *testing.T) {
	for _, kind := range []string{"overlay", "bind"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "overlay" && os.Getuid() != 0 {
				t.Skip("takes root: an overlay of / needs more than the rights over a user namespace of one user")
			}
			h := newHome(t)
			place, err := os.MkdirTemp(base, "root-")
			if err != nil {
				t.Fatal(err)
			}
			h.repository()
			h.write(".ssh/id_ed25519", "secret")
			h.wrap = []string{"root=" + kind + ":" + place}
			h.sh("echo new >file && cat file; cat ~/.ssh/id_ed25519 2>&1; touch ~/x 2>&1; git status --short; stat -f -c %T /").ok().
				says("new\n").says("Permission denied").says("Read-only").says(" M file")
		})
	}
}

func TestLongPathsAreNoObstacle(t *testing.T) {
	h := newHome(t)
	deep := h.work
	for len(deep) < 3000 {
		deep += "/" + strings.Repeat("d", 200)
		if err := os.Mkdir(deep, 0o755); err != nil {
			t.Fatal(err)
		}
		h.own(deep)
	}
	h.work = deep
	h.env = append(h.env, "XDG_STATE_HOME="+deep+"/state") // with the registry's socket
	r := h.start("deep", "sh", "-c", "touch here; sleep 628")
	waitFor(t, "its command", func() bool { _, err := os.Stat(deep + "/here"); return err == nil })
	h.sallyport("exec", "deep", "sh", "-c", "test -e here && pwd").ok().says(deep)
	h.sallyport("stop", "deep").ok()
	r.exits(t, 143)
	// Deeper than a path can say.
	need(t, "python3")
	script := "import os\nfor i in range(10): os.mkdir('e'*200); os.chdir('e'*200)\nos.execv('" + binary + "', ['sallyport', 'run', '--', 'touch', 'started'])"
	cmd := h.program(t.Context(), "/usr/bin/env", "python3", "-c", script)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), "working directory") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBytesThatAreNoTextAreNoObstacle(t *testing.T) {
	h := newHome(t)
	const odd = "d\xff\n \x80é"
	h.mkdir("work/" + odd)
	h.work = filepath.Join(h.work, odd)
	h.repository()
	for _, locale := range []string{"C", "tr_TR.ISO-8859-9", "ja_JP.SJIS", "nonsense", ""} {
		h.env = []string{"LC_ALL=" + locale, "LANG=" + locale, "TZ=:/nonsense"}
		r := h.runWith([]string{"-e", "ODD=\xfe\xff", "--name", "n\xff"}, "sh", "-c", `printf '%s|%s|%s' "$1" "$ODD" "${PWD##*/}"; : >"$1"`, "x", "\xff\x80")
		if want := "\xff\x80|\xfe\xff|" + odd; r.ok().out != want {
			t.Errorf("%q: %q, want %q", locale, r.out, want)
		}
	}
	if _, err := os.Stat(filepath.Join(h.work, "\xff\x80")); err != nil {
		t.Error(err)
	}
	h.noPlaceholders()
	h.start("box", "sleep", "629")
	r := h.sallyport("exec", "-e", "ODD=\xfd", "box", "sh", "-c", `printf '%s|%s|%s' "$1" "$ODD" "${PWD##*/}"`, "x", "\xff").ok()
	if want := "\xff|\xfd|" + odd; r.out != want {
		t.Errorf("%q, want %q", r.out, want)
	}
	h.sallyport("stop", "box").ok()
}

func TestNeitherATerminalNorStreamsAreNeeded(t *testing.T) {
	h := newHome(t)
	for _, closed := range [][]string{{"0"}, {"1"}, {"2"}, {"0", "1", "2"}} {
		h.wrap = []string{"setsid"}
		for _, fd := range closed {
			h.wrap = append(h.wrap, "close-fd="+fd)
		}
		os.Remove(h.work + "/done")
		h.run("sh", "-c", "cat; echo out; echo err >&2; : >done").ok()
		if _, err := os.Stat(h.work + "/done"); err != nil {
			t.Errorf("%q closed: %v", closed, err)
		}
	}
}

func TestLowLimitsAreRefusedOrSufficient(t *testing.T) {
	for limit, hint := range map[string]string{
		"nofile:64": "", "nofile:14": "ulimit -n", "fsize:0": "ulimit -f", "fsize:1000000": "", "memlock:0": "", "core:0": "",
		"stack:262144": "", "as:4000000000": "", "nproc:4000": "",
		// Below this Go's runtime itself gives up, in many words.
		"as:100000000": "-", "nproc:3": "-", "nofile:5": "-", "data:1000000": "-",
	} {
		t.Run(limit, func(t *testing.T) {
			h, _ := ownUser(t)
			h.wrap = []string{"rlimit=" + limit}
			before := descendants(t)
			r := h.run("touch", "started")
			switch _, err := os.Stat(h.work + "/started"); {
			case hint == "" && (r.code != 0 || err != nil):
				t.Errorf("exit status %d\n%s", r.code, r.err)
			case hint != "" && (r.code == 0 || err == nil):
				t.Errorf("it runs: exit status %d, %v", r.code, err)
			case len(hint) > 1:
				r.badHost(hint)
			}
			h.nothingLeft(before)
		})
	}
}

func TestInAContainerItRunsOrSaysWhyNot(t *testing.T) {
	h := newHome(t)
	outer := []string{"--unshare-all", "--dev-bind", "/", "/", "--proc", "/proc", "--die-with-parent"}
	in := func(program string, args ...string) *result {
		t.Helper()
		cmd := h.program(context.Background(), program, args...)
		var out, errOut strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errOut
		_ = cmd.Run()
		return &result{t: t, code: cmd.ProcessState.ExitCode(), out: out.String(), err: errOut.String()}
	}
	doctor := func(code int, args ...string) diagnosis {
		t.Helper()
		args = append(args, binary, "doctor")
		return diagnosed(t, in("/usr/bin/bwrap", args...), in("/usr/bin/bwrap", append(args, "-o", "json")...), code)
	}
	run := []string{binary, "run", "--", "sh", "-c", "echo ran; touch started"}
	in("/usr/bin/bwrap", append(outer, run...)...).ok().says("ran")
	doctor(0, outer...)
	in("/usr/bin/unshare", append([]string{"--user", "--map-current-user", "--pid", "--fork", "--mount-proc"}, run...)...).ok().says("ran")
	os.Remove(h.work + "/started")
	if help, _ := h.program(t.Context(), "/usr/bin/bwrap", "--help").Output(); strings.Contains(string(help), "--disable-userns") {
		outer := append(slices.Clone(outer), "--unshare-user", "--disable-userns")
		in("/usr/bin/bwrap", append(outer, run...)...).badHost("namespaces", "container")
		h.notStarted()
		if list := doctor(1, outer...).lacks("missing"); len(list) != 1 || !strings.Contains(list[0].Cure, "container") {
			t.Errorf("doctor in a container without namespaces: %+v", list)
		}
	}
	in("/usr/bin/unshare", append([]string{"--user", "--map-root-user", "--mount"}, run...)...).badHost("refusing to run the command as root", "--user")
	h.notStarted()
	asRoot := append([]string{"--user", "--map-root-user", binary, "run", "--user", "root"}, run[2:]...)
	in("/usr/bin/unshare", asRoot...).ok().says("ran")
	os.Remove(h.work + "/started")
	r := h.run(h.ownBinary(), "run", "--", "touch", "started")
	if r.code != 125 || !strings.Contains(r.err, "this is a sandbox of sallyport's already") {
		t.Errorf("in itself: exit status %d\n%s", r.code, r.err)
	}
	h.notStarted()
	r.nothingDenied()
}
