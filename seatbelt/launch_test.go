package seatbelt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPreflightTriesAnOpenProfileAndThenTheRuns(t *testing.T) {
	f := newFakes(t, "")
	p := &Profile{Text: "(version 1)(deny default)", Params: []Param{{"P_0", `/a "b" $(c)`}}}
	if err := Preflight(f, p, 0); err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"-p", "(version 1)(allow default)", "--", "/usr/bin/true"},
		{"-p", "(version 1)(deny default)", `-DP_0=/a "b" $(c)`, "--", "/usr/bin/true"}}
	if got := f.started("/usr/bin/sandbox-exec"); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("started %q\nwant %q", got, want)
	}
	for _, c := range f.ran {
		if strings.Join(c.Env, " ") != "PATH=/usr/bin:/bin LANG=C" {
			t.Errorf("environment %q", c.Env)
		}
	}
}

func TestNothingRunsWhereTheSandboxCannotBeEntered(t *testing.T) {
	for _, tt := range []struct {
		mode string
		want error
		text string
		runs int
	}{
		{"nested", ErrInSandbox, "Operation not permitted", 1},
		{"bad-profile", ErrProfile, "unbound variable", 2},
	} {
		f := newFakes(t, tt.mode)
		err := Preflight(f, &Profile{Text: "(version 1)(nonsense)"}, 0)
		var hinted *Error
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !errors.As(err, &hinted) || hinted.Hint == "" {
			t.Errorf("%s: %v", tt.mode, err)
		}
		if n := len(f.started(sandboxExec)); n != tt.runs {
			t.Errorf("%s: tried %d times", tt.mode, n)
		}
	}
}

func TestAPreflightThatHangsIsKilled(t *testing.T) {
	begin := time.Now()
	err := Preflight(newFakes(t, "hangs"), nil, 200*time.Millisecond)
	var hung errHung
	if !errors.As(err, &hung) || time.Since(begin) > long {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestTagsAreUnlikeEachOtherAndFitIntoAProfile(t *testing.T) {
	a, b := NewTag(), NewTag()
	if a == b || !validTag(a) || len(a) != len(tagPrefix)+32 {
		t.Errorf("%s, %s", a, b)
	}
	for _, bad := range []string{"", "short", strings.Repeat("a", 200), "sallyport-with space-0123456789", `sallyport-"0123456789abcdef`, "sallyport-\n0123456789abcdef"} {
		if validTag(bad) {
			t.Errorf("%q was taken", bad)
		}
		if _, err := Build(Input{Policy: macPolicy(t, "network: {}\n"), FS: NominalRoot{}, Home: "/Users/u", Tag: bad}); err == nil {
			t.Errorf("%q was taken by Build", bad)
		}
	}
}
