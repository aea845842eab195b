package sallyport

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// given are options of a run that may reach these hosts, and nothing else.
func given(policy string, command ...string) Options {
	return Options{Command: command, Dir: "/", Policy: LoadOptions{Texts: []Text{{Name: "given", Data: []byte(policy)}}}}
}

func TestNothingIsStartedUnderABadPolicy(t *testing.T) {
	box, err := Start(context.Background(), given(`network: {alowedDomains: []}`, "true"))
	var e *Error
	if box != nil || !errors.As(err, &e) || e.Status != 125 || !strings.Contains(err.Error(), "alowedDomains") {
		t.Errorf("started: %v, %v", box != nil, err)
	}
}

func TestASandboxIsSignalledAndCancelled(t *testing.T) {
	for name, end := range map[string]func(*Sandbox, context.CancelFunc) error{
		"signalled": func(s *Sandbox, _ context.CancelFunc) error { return s.Signal(syscall.SIGTERM) },
		"cancelled": func(_ *Sandbox, cancel context.CancelFunc) error { cancel(); return nil },
	} {
		ctx, cancel := context.WithCancel(context.Background())
		box, err := Start(ctx, given(`network: {}`, "sleep", "634"))
		if err != nil {
			t.Fatal(err)
		}
		if err := end(box, cancel); err != nil {
			t.Error(err)
		}
		result, err := box.Wait()
		if want := map[string]int{"signalled": 143, "cancelled": 137}[name]; err != nil || result.Status != want {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
		if _, err := box.Update(LoadOptions{Texts: []Text{{Name: "late", Data: []byte("network: {}")}}}); !errors.Is(err, errEnded) {
			t.Errorf("%s: a policy for one that has ended: %v", name, err)
		}
		cancel()
	}
}

func TestEventsAndUpdatesOfManySandboxesDoNotMix(t *testing.T) {
	var wait sync.WaitGroup
	for _, host := range []string{"a.example", "b.example", "c.example", "d.example"} {
		wait.Go(func() {
			in, lines, err := os.Pipe()
			if err != nil {
				t.Error(err)
				return
			}
			o := given(`network: {}`, "sh", "-c", "while read name; do getent hosts $name; done >/dev/null")
			o.Stdin = in
			var mu sync.Mutex
			denied := map[event.Text]uint64{}
			o.OnEvent = func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Operation == event.NetDNS && e.Verdict.Denied() {
					denied[e.Object.Host] += e.Count
				}
			}
			box, err := Start(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := box.Update(LoadOptions{Texts: []Text{{Name: "own", Data: []byte("network: {allowedDomains: [" + host + "]}")}}}); err != nil {
				t.Error(err)
			}
			if _, err := box.Update(LoadOptions{Texts: []Text{{Name: "bad", Data: []byte("network: {allowedDomains: [all]}\nx: 1")}}}); err == nil {
				t.Error("a bad policy is taken")
			}
			io.WriteString(lines, "a.example\nb.example\nc.example\nd.example\n")
			lines.Close()
			if _, err := box.Wait(); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(denied) != 3 || denied[event.Text(host)] != 0 {
				t.Errorf("%s is allowed, denied are %v", host, denied)
			}
		})
	}
	wait.Wait()
}
