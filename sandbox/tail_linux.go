package sandbox

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// tail keeps the end of what stage 1 and bubblewrap say on standard error.
type tail struct {
	done chan struct{}
	buf  []byte
}

const tailSize = 4 << 10

func (t *tail) pipe() (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	t.done = make(chan struct{})
	go func() {
		defer close(t.done)
		defer r.Close()
		t.buf, _ = io.ReadAll(io.LimitReader(r, tailSize))
		_, _ = io.Copy(io.Discard, r) // or the writer would block
	}()
	return w, nil
}

// text gives what was said, when all writers have gone.
func (t *tail) text() string {
	if t.done == nil {
		return ""
	}
	select {
	case <-t.done:
		return strings.TrimSpace(string(t.buf))
	case <-time.After(time.Second):
		return ""
	}
}
