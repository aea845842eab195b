package testvm

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/feature"
)

// recorder is a test that notes how it ends instead of ending.
type recorder struct {
	testing.TB
	ended string
}

type ended struct{}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return context.Background() }
func (r *recorder) Skip(args ...any)         { r.end("skip", args) }
func (r *recorder) Fatal(args ...any)        { r.end("fail", args) }
func (r *recorder) Skipf(string, ...any)     { r.end("skip", nil) }
func (r *recorder) Fatalf(string, ...any)    { r.end("fail", nil) }

func (r *recorder) end(how string, args []any) {
	r.ended = how
	for _, a := range args {
		r.ended += " " + a.(string)
	}
	panic(ended{})
}

// ends says how a test ends: with fail or skip and the reason, or, empty, that it
// goes on.
func ends(f func(testing.TB)) (how string) {
	r := &recorder{}
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(ended); !ok {
				panic(p)
			}
		}
		how = r.ended
	}()
	f(r)
	return ""
}

func TestRequireSkipsOutsideAndFailsInside(t *testing.T) {
	const never = Feature("teleport")
	if got := ends(func(tb testing.TB) { Require(tb, never) }); !strings.HasPrefix(got, "fail") {
		t.Errorf("a feature nobody knows: %s", got)
	}
	if _, err := feature.Probe(Openat2); err != nil {
		t.Fatalf("Linux 5.6 has it: %v", err)
	}
	if got := ends(func(tb testing.TB) { Require(tb, Openat2, CloseRange) }); got != "" {
		t.Errorf("features that are there: %s", got)
	}
	t.Setenv(feature.EnvMachine, "6.1-plain")
	t.Setenv(feature.EnvWithout, string(Openat2))
	if got := ends(func(tb testing.TB) { Require(tb, Openat2) }); !strings.Contains(got, "was booted without openat2, and has it") {
		t.Errorf("a feature that should not be there: %s", got)
	}
}

func TestRunSkipsUnlessBootingIsAllowed(t *testing.T) {
	t.Setenv(EnvBoot, "")
	if got := ends(func(tb testing.TB) { Run(tb, Linux61, Job{}) }); got != "skip" {
		t.Errorf("Run %s", got)
	}
}

func TestPayloadRefusesFilesOutsideOfIt(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the harness")
	}
	for _, name := range []string{"../etc/passwd", "/etc/passwd"} {
		_, err := payload(t.Context(), t.TempDir(), Job{Files: map[string]string{name: os.DevNull}})
		if err == nil || !strings.Contains(err.Error(), "does not lie below") {
			t.Errorf("payload with %s: %v", name, err)
		}
	}
}
