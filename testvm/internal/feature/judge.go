package feature

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Guest is what a test VM says of itself. The zero value is no test VM.
type Guest struct {
	Machine string // the machine's name, such as 6.1-plain
	Without []Name // features it was booted without, on purpose
}

// Inside reports whether this is a test VM.
func (g Guest) Inside() bool { return g.Machine != "" }

// Names of what a test VM says of itself: environment variables for what the
// harness starts, kernel parameters for what lost its environment on the way.
const (
	EnvMachine   = "SALLYPORT_TESTVM"
	EnvWithout   = "SALLYPORT_TESTVM_WITHOUT"
	paramMachine = "testvm.machine"
	paramWithout = "testvm.without"
)

// Params is the part of a kernel command line that ParseGuest reads.
func (g Guest) Params() string {
	return paramMachine + "=" + g.Machine + " " + paramWithout + "=" + joinNames(g.Without)
}

// Env is the part of an environment that ParseGuest reads.
func (g Guest) Env() []string {
	return []string{EnvMachine + "=" + g.Machine, EnvWithout + "=" + joinNames(g.Without)}
}

// ParseGuest reads an environment and, where that says nothing, a kernel command line.
func ParseGuest(getenv func(string) string, cmdline string) Guest {
	if name := getenv(EnvMachine); name != "" {
		return Guest{name, splitNames(getenv(EnvWithout))}
	}
	var g Guest
	for _, word := range strings.Fields(cmdline) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case paramMachine:
			g.Machine = value
		case paramWithout:
			g.Without = splitNames(value)
		}
	}
	return g
}

// Judgement is what a test does about a feature that it needs.
type Judgement uint8

const (
	Fail Judgement = iota
	Skip
	Go
)

// Judge decides what becomes of a test that needs a feature: outside a test VM
// it is skipped where the feature is missing; inside, only if the machine is too
// old for it or was booted without it. In every other case the test fails, since
// a skipped test proves nothing.
func Judge(g Guest, running Version, name Name, probe error) (Judgement, string) {
	f, known := Find(name)
	switch {
	case !known:
		return Fail, fmt.Sprintf("feature %q is not in the table", name)
	case probe == nil && g.without(name):
		return Fail, fmt.Sprintf("%s was booted without %s, and has it", g.Machine, name)
	case probe == nil:
		return Go, ""
	case errors.Is(probe, ErrNeedsRoot):
		return Skip, fmt.Sprintf("%s: %v", name, probe)
	case !g.Inside():
		return Skip, fmt.Sprintf("%s (%s): %v", name, f.About, probe)
	case g.without(name):
		return Skip, fmt.Sprintf("%s is booted without %s", g.Machine, name)
	case !errors.Is(probe, ErrMissing):
		return Fail, fmt.Sprintf("%s: could not probe: %v", name, probe)
	case !running.AtLeast(f.Since):
		return Skip, fmt.Sprintf("%s needs a kernel since %s, this is %s", name, f.Since, running)
	}
	return Fail, fmt.Sprintf("%s: %v, though every kernel since %s has it and this is %s", name, probe, f.Since, running)
}

func (g Guest) without(name Name) bool { return slices.Contains(g.Without, name) }

func joinNames(names []Name) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = string(n)
	}
	return strings.Join(words, ",")
}

func splitNames(s string) []Name {
	var names []Name
	for _, n := range strings.Split(s, ",") {
		if n != "" {
			names = append(names, Name(n))
		}
	}
	return names
}
