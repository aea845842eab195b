package selftest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	packageFolder = "/payload/package" // of 'testvm packages'
	ordinaryHome  = "/home/tester"
)

// TestAPackageOnAFreshMachine: two commands from the package to the first denial
// that is recorded, an upgrade under a running sandbox, and nothing left at the end.
func TestAPackageOnAFreshMachine(t *testing.T) {
	if _, err := os.Stat(packageFolder); err != nil {
		t.Skip("no package is here: 'make testvm-packages' brings one")
	}
	s := service{t}
	aptOf(s, packageFolder+"/archive")
	s.run("runuser", "-l", "tester", "-c", "mkdir project")
	// As where there are containers, or sessions with controllers of their own: it
	// takes more to move a process then (CAP_SYS_NICE, before Linux 6.6).
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpuset +cpu +memory +pids"), 0o644); err != nil {
		t.Fatal(err)
	}
	if path, err := exec.LookPath("bwrap"); err == nil {
		t.Fatalf("the machine is not fresh: it has %s", path)
	}
	before := installedFiles(t)
	for _, step := range []struct {
		name string
		do   func(t *testing.T, s service)
	}{
		{"two commands to the first denial", firstDenial},
		{"the agent is up", agentIsUp},
		{"upgrade under a running sandbox", upgrade},
		{"remove", remove},
	} {
		begun := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.do(t, service{t}) }) {
			return // each begins where the one before has ended
		}
		t.Logf("%s: %.1f s", step.name, time.Since(begun).Seconds())
	}
	s.run("apt-get", "purge", "--autoremove", "-q", "-y", "sallyport") // with what it had brought
	for _, line := range difference(before, installedFiles(t)) {
		t.Error(line)
	}
	nothingOf(t, "/sys/fs/bpf", "/sys/fs/cgroup")
	if _, err := os.Lstat("/run/sallyport"); err == nil {
		t.Error("left: /run/sallyport")
	}
}

// aptOf has apt know the packages of a folder, and no others.
func aptOf(s service, folder string) {
	s.t.Helper()
	for _, name := range []string{"/etc/apt/sources.list.d", "/etc/apt/sources.list"} {
		if err := os.RemoveAll(name); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.WriteFile("/etc/apt/sources.list", []byte("deb [trusted=yes] file:"+folder+" ./\n"), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.run("apt-get", "update", "-q")
}

func firstDenial(t *testing.T, s service) {
	t.Log(s.run("apt-get", "install", "-q", "-y", packageFolder+"/sallyport.deb"))
	t.Log(s.run("runuser", "-l", "tester", "-c", "cd project && sallyport run -- sh -c 'echo x >/usr/denied-first || echo refused'"))
	if seen, lost := attempts(t, ordinaryHome); seen["first"] != 1 || lost != 0 {
		t.Errorf("recorded: %v, %d lost", seen, lost)
	}
}

func agentIsUp(t *testing.T, s service) {
	for _, unit := range []string{"sallyport-agent.socket", agentUnit} {
		for _, question := range []string{"is-active", "is-enabled"} {
			s.run("systemctl", question, unit)
		}
	}
	text, err := asOrdinary(ordinaryHome, "doctor").CombinedOutput()
	if err != nil {
		t.Fatalf("doctor: %v\n%s", err, text)
	}
	t.Logf("%s", text)
	out, err := asOrdinary(ordinaryHome, "doctor", "-o", "json").Output()
	var d struct{ Tier string }
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err != nil || d.Tier == "rootless" || !strings.Contains(string(text), "\ntier "+d.Tier+": run can start") {
		t.Errorf("doctor: %v, tier %q", err, d.Tier)
	}
	for _, path := range []string{"/usr/share/bash-completion/completions/sallyport", "/etc/sallyport/policy.d"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func upgrade(t *testing.T, s service) {
	sh := startShell(t, ordinaryHome)
	sh.try("before")
	version, agent := s.run("sallyport", "version"), s.pid()
	s.run("apt-get", "install", "-q", "-y", packageFolder+"/upgrade.deb")
	if now := s.run("sallyport", "version"); now == version || !strings.Contains(now, "+upgrade") {
		t.Errorf("the program says it is %q, it was %q", now, version)
	}
	if now := s.pid(); now == "0" || now == agent {
		t.Errorf("the agent was process %s and is %s", agent, now)
	}
	sh.try("upgraded")
	sh.in.Close()
	_, _ = io.Copy(io.Discard, sh.out)
	if err := sh.cmd.Wait(); sh.cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("the run ended with %v\n%s", err, sh.err.String())
	}
	if seen, lost := attempts(t, ordinaryHome); seen["first"] != 1 || seen["before"] != 1 || seen["upgraded"]+lost < 1 {
		t.Errorf("recorded: %v, %d lost", seen, lost)
	}
}

// remove ends what runs, and keeps the record.
func remove(t *testing.T, s service) {
	sh := startShell(t, ordinaryHome)
	s.run("apt-get", "remove", "-q", "-y", "sallyport")
	_, _ = io.Copy(io.Discard, sh.out) // until nobody has it open
	if err := sh.cmd.Wait(); err == nil || sh.cmd.ProcessState.ExitCode() == 7 {
		t.Errorf("the run ended with %v\n%s", err, sh.err.String())
	}
	if path, err := exec.LookPath("sallyport"); err == nil {
		t.Errorf("%s is still there", path)
	}
	for _, unit := range []string{"sallyport-agent.socket", agentUnit} {
		if out, _ := exec.Command("systemctl", "is-active", unit).Output(); strings.TrimSpace(string(out)) != "inactive" {
			t.Errorf("%s is %s", unit, out)
		}
	}
	nothingOf(t, "/sys/fs/bpf", "/sys/fs/cgroup")
	if logs, _ := filepath.Glob("/var/lib/sallyport/audit/*.jsonl"); len(logs) == 0 {
		t.Error("the record is gone")
	}
}

// nothingOf fails the test if a name below some folders is sallyport's.
func nothingOf(t *testing.T, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.Contains(filepath.Base(path), "sallyport") {
				t.Errorf("left: %s", path)
			}
			return nil // what goes while it is looked at is of no interest
		})
	}
}

// noted are folders of which dpkg, apt and systemd take notes about any package,
// and the user's own.
var noted = []string{"/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log", "/var/lib/systemd", ordinaryHome}

// installedFiles describes what is on the root file system.
func installedFiles(t *testing.T) map[string]string {
	t.Helper()
	var root syscall.Stat_t
	if err := syscall.Lstat("/", &root); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		if d.IsDir() && (st.Dev != root.Dev || slices.Contains(noted, path)) {
			return filepath.SkipDir
		}
		about := fmt.Sprintf("mode %o of %d:%d", st.Mode, st.Uid, st.Gid)
		if d.Type().IsRegular() {
			about += fmt.Sprintf(", %d bytes", st.Size)
		} else if d.Type()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(path)
			about += ", to " + to
		}
		files[path] = about
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 1000 {
		t.Fatalf("only %d files are on this machine", len(files))
	}
	return files
}

// difference says in what two descriptions differ.
func difference(before, after map[string]string) (lines []string) {
	for path, about := range after {
		if was, ok := before[path]; !ok {
			lines = append(lines, fmt.Sprintf("left: %s (%s)", path, about))
		} else if was != about {
			lines = append(lines, fmt.Sprintf("changed: %s was %s and is %s", path, was, about))
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			lines = append(lines, "gone: "+path)
		}
	}
	slices.Sort(lines)
	return lines
}
