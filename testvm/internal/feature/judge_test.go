package feature

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	var (
		outside = Guest{}
		vm      = Guest{Machine: "6.1-plain"}
		noLSM   = Guest{Machine: "6.1-plain-nobpflsm", Without: []Name{BPFLSM}}
		old     = Version{5, 10}
		new     = Version{6, 1}
		absent  = missing("ENOSYS")
		broken  = errors.New("EIO")
	)
	tests := map[string]struct {
		guest   Guest
		running Version
		name    Name
		probe   error
		want    Judgement
		says    string
	}{
		"there":                               {vm, new, Landlock, nil, Go, ""},
		"there, outside":                      {outside, old, Landlock, nil, Go, ""},
		"missing outside is skipped":          {outside, new, Landlock, absent, Skip, "Landlock, with its ABI"},
		"unknown outside is skipped":          {outside, new, Landlock, broken, Skip, "EIO"},
		"missing on a new kernel fails":       {vm, new, Landlock, absent, Fail, "since 5.13"},
		"missing on an old kernel is skipped": {vm, old, Landlock, absent, Skip, "needs a kernel since 5.13"},
		"unknown inside fails":                {vm, old, Landlock, broken, Fail, "could not probe"},
		"only root can tell":                  {vm, new, BPFLSM, ErrNeedsRoot, Skip, "only root"},
		"taken away is skipped":               {noLSM, new, BPFLSM, absent, Skip, "booted without"},
		"taken away and there fails":          {noLSM, new, BPFLSM, nil, Fail, "and has it"},
		"a name nobody knows fails":           {outside, new, "teleport", nil, Fail, "not in the table"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, why := Judge(tt.guest, tt.running, tt.name, tt.probe)
			if got != tt.want || !strings.Contains(why, tt.says) || (why == "") != (got == Go) {
				t.Errorf("Judge = %d, %q; want %d, saying %q", got, why, tt.want, tt.says)
			}
		})
	}
}

func TestZeroJudgementFails(t *testing.T) {
	var j Judgement
	if j != Fail {
		t.Error("the zero value lets a test go on")
	}
}

func TestParseGuest(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(key string) string {
			for _, p := range pairs {
				if k, v, _ := strings.Cut(p, "="); k == key {
					return v
				}
			}
			return ""
		}
	}
	g := Guest{"6.1-plain", []Name{BPFLSM, Delegation}}
	tests := map[string]struct {
		getenv  func(string) string
		cmdline string
		want    Guest
	}{
		"neither":                       {env(), "quiet root=/dev/vda", Guest{}},
		"environment":                   {env(g.Env()...), "", g},
		"command line":                  {env(), "quiet " + g.Params() + "\n", g},
		"environment before the other":  {env(EnvMachine + "=a"), g.Params(), Guest{Machine: "a"}},
		"nothing is left out":           {env(), Guest{Machine: "b"}.Params(), Guest{Machine: "b"}},
		"a parameter without its value": {env(), "testvm.machine", Guest{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ParseGuest(tt.getenv, tt.cmdline); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("ParseGuest = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseVersion(t *testing.T) {
	for release, want := range map[string]Version{
		"6.1.0-56-cloud-amd64":       {6, 1},
		"6.12.117+deb13-cloud-amd64": {6, 12},
		"7.3-rc1":                    {7, 3},
		"5.10":                       {5, 10},
	} {
		if got, err := ParseVersion(release); err != nil || got != want {
			t.Errorf("ParseVersion(%q) = %v, %v; want %v", release, got, err, want)
		}
	}
	for _, release := range []string{"", "6", "6.", ".1", "six.one", "-6.1"} {
		if got, err := ParseVersion(release); err == nil {
			t.Errorf("ParseVersion(%q) = %v, want an error", release, got)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"6.1.0-56-cloud-amd64", "5.10", "6.", "99999999999.1", "6.1\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, release string) {
		v, err := ParseVersion(release)
		if err == nil && !strings.HasPrefix(strings.TrimLeft(release, "0"), strings.TrimLeft(fmt.Sprint(v.Major), "0")) {
			t.Errorf("ParseVersion(%q) = %v", release, v)
		}
	})
}

func TestAtLeastComparesNumbers(t *testing.T) {
	order := []Version{{}, {4, 19}, {5, 8}, {5, 10}, {6, 1}, {6, 12}, {7, 3}}
	for i, v := range order {
		for j, w := range order {
			if got := v.AtLeast(w); got != (i >= j) {
				t.Errorf("%v.AtLeast(%v) = %t", v, w, got)
			}
		}
	}
}
