package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newAgent starts an agent of the benchmark's own, and gives the environment of
// who uses it, and of who uses none.
func (p *place) newAgent(b *testing.B) (with, without []string) {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("an agent takes root")
	}
	dir := filepath.Dir(p.home)
	socket, state := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "state")
	var said bytes.Buffer
	cmd := exec.Command(p.binary, "agent", "--socket", socket, "--state-dir", state)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it says so below if it is not gone
		if out, err := exec.Command(p.binary, "agent", "--remove", "--state-dir", state).CombinedOutput(); err != nil {
			b.Errorf("remove the agent: %v: %s", err, out)
		}
	})
	with = []string{"SALLYPORT_AGENT=" + socket}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(end) {
			b.Fatalf("the agent does not start: %s", said.String())
		}
	}
	return with, []string{"SALLYPORT_AGENT="}
}

// BenchmarkRunWithAgent is what tier trace costs a run of an ordinary user.
func BenchmarkRunWithAgent(b *testing.B) {
	p := newPlace(b)
	with, without := p.newAgent(b)
	run := []string{p.binary, "run", "--", "true"}
	p.race(b,
		contender{"agent", append(slices.Clone(run[:2]), "--quiet", "--", "true"), with},
		contender{"rootless", run, without},
		contender{name: "bwrap", argv: slices.Insert(p.bubblewrap(b), 1, "--unshare-net")})
}

// BenchmarkGoBuild builds this repository, all that depends on the schema of
// events, and links: in a sandbox with an agent, without one, and in bubblewrap
// alone with the same mounts.
func BenchmarkGoBuild(b *testing.B) {
	p := newPlace(b)
	with, without := p.newAgent(b)
	build := p.source(b)
	env := []string{"GOCACHE=" + p.work + "/cache", "GOFLAGS=-mod=vendor", "GOTOOLCHAIN=local", "GOPROXY=off", "CGO_ENABLED=0"}
	run := []string{p.binary, "run", "--quiet"}
	for _, e := range env {
		run = append(run, "-e", e)
	}
	run = append(append(run, "--"), build...)
	bwrap := p.bubblewrap(b)
	bwrap = append(slices.Insert(bwrap[:len(bwrap)-1], 1, "--unshare-net"), build...)
	turn := 0
	p.raceAfter(b, func() {
		turn++
		name := filepath.Join(p.work, "src/internal/event/turn.go")
		if err := os.WriteFile(name, fmt.Appendf(nil, "package event\n\nconst turn = %d\n", turn), 0o644); err != nil {
			b.Fatal(err)
		}
	},
		contender{"agent", run, with},
		contender{"rootless", run, without},
		contender{"bwrap", bwrap, env})
}

// source puts a copy of this repository into the place, with all that it needs,
// and gives the command that builds it.
func (p *place) source(b *testing.B) []string {
	b.Helper()
	src := filepath.Join(p.work, "src")
	script := `git -C ../.. archive HEAD | tar -x -C "$1" && cd "$1" && go mod vendor && chmod -R a+rX . && chown -R "$2" .. && go env GOROOT`
	if err := os.Mkdir(src, 0o755); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script, "sh", src, fmt.Sprintf("%d:%d", p.uid, p.uid))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("copy the repository: %v", err)
	}
	return []string{strings.TrimSpace(string(out)) + "/bin/go", "build", "-C", src, "-buildvcs=false", "-o", p.work + "/built", "./cmd/sallyport"}
}
