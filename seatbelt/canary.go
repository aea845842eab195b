package seatbelt

import (
	"io"
	"sync"
	"time"
)

// canary provokes one refusal with a tag of its own, to see whether refusals
// arrive. The log shows nothing from before a reader was ready.
type canary struct {
	exec Exec
	tag  string
	file string

	mu   sync.Mutex
	seen chan struct{} // closed when it has arrived
	done bool
}

// canaryProfile refuses one file; the tag is of letters, digits and dashes.
func canaryProfile(tag string) string {
	return "(version 1)\n(allow default)\n" +
		`(deny file-read-data (literal (param "FILE")) (with message "` + tag + `"))` + "\n"
}

func newCanary(e Exec, tag, file string) *canary {
	return &canary{exec: e, tag: tag, file: file, seen: make(chan struct{})}
}

// arrived takes note of a violation and reports whether it was the canary's.
func (c *canary) arrived(message string) bool {
	if message != c.tag {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		c.done = true
		close(c.seen)
	}
	return true
}

// provoke is one attempt; it waits for the program at most so long.
func (c *canary) provoke(limit time.Duration) error {
	p, err := c.exec.Start(Command{
		Path: sandboxExec,
		Args: []string{"-p", canaryProfile(c.tag), "-DFILE=" + c.file, "--", catProgram, c.file},
		Env:  plainEnv,
	})
	if err != nil {
		return err
	}
	_, err = waitWithin(p, limit)
	return err
}

// errHung says that a program had to be killed.
type errHung struct{ limit time.Duration }

func (e errHung) Error() string { return "did not end within " + e.limit.String() }

// waitWithin waits for a program whose output does not matter, and kills it
// when it takes too long.
func waitWithin(p Process, limit time.Duration) (int, error) {
	hung := false
	var mu sync.Mutex
	timer := time.AfterFunc(limit, func() {
		mu.Lock()
		hung = true
		mu.Unlock()
		_ = p.Kill() // ended meanwhile: nothing to kill
	})
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, p.Output())
	code, err := p.Wait()
	mu.Lock()
	defer mu.Unlock()
	if hung {
		return code, errHung{limit}
	}
	return code, err
}
