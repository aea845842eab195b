//go:build linux || darwin

package sallyport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/seatbelt"
)

// macDoctor tries what a run on macOS needs, and says what macOS cannot do.
func macDoctor(ctx context.Context, sys macSystem) Diagnosis {
	d := Diagnosis{Tier: event.TierSeatbelt}
	d.macSandbox(sys)
	d.macLog()
	if d.CanRun() {
		d.macTrial(ctx, sys)
	}
	d.macLimits()
	if !d.CanRun() {
		d.Tier = event.TierNone
	}
	return d
}

func (d *Diagnosis) macSandbox(sys macSystem) {
	if err := seatbelt.Preflight(sys, nil, 0); err != nil {
		d.add("sandbox-exec", StateMissing, err.Error(), hintIn(err))
		return
	}
	d.add("sandbox-exec", StateOK, "a sandbox can be entered", "")
}

func (d *Diagnosis) macLog() {
	const cure = "set HOME or XDG_STATE_HOME to a directory that you can write"
	home, _ := os.UserHomeDir()
	dir := audit.Dir(os.Getenv, home)
	if dir == "" {
		d.add("audit log", StateMissing, "there is no home directory", cure)
		return
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.add("audit log", StateMissing, err.Error(), cure)
		return
	}
	d.add("audit log", StateOK, dir, "")
}

// macTrial runs /usr/bin/true for real: the profile compiles, the log shows
// refusals, and the last one arrives.
func (d *Diagnosis) macTrial(ctx context.Context, sys macSystem) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		d.add("trial run", StateMissing, err.Error(), "")
		return
	}
	defer null.Close()
	var warnings, hints []string
	begin := time.Now()
	result, err := runMac(ctx, sys, Options{Command: []string{"true"}, Dir: os.TempDir(), Stdin: null, Stdout: null, Stderr: null,
		Warn: func(message, hint string) { warnings, hints = append(warnings, message), append(hints, hint) }})
	var e *Error
	switch {
	case errors.As(err, &e):
		d.add("trial run", StateMissing, err.Error(), e.Hint)
	case result.Status != 0:
		d.add("trial run", StateMissing, fmt.Sprintf("'true' exited with %d", result.Status), "")
	case len(warnings) > 0:
		d.add("trial run", StateLess, strings.Join(warnings, "; "), strings.TrimSpace(strings.Join(hints, " ")))
	default:
		d.add("trial run", StateOK, fmt.Sprintf("'true' ran in %d ms; refusals arrive from the log", time.Since(begin).Milliseconds()), "")
	}
}

// macLimits says what no Mac can do.
func (d *Diagnosis) macLimits() {
	d.add("capture", StateLess, "connections are not captured: a program that ignores HTTPS_PROXY and ALL_PROXY is refused, "+
		"and the record has its port alone", "name the proxy in that program's own settings")
	d.add("attribution", StateLess, "which process made a connection through the proxy is not known", "")
	d.add("terminal", StateLess, "a command has its caller's terminal as streams only: /dev/tty is closed to it, and a shell in it has no job control", "")
	d.add("go tls", StateLess, "Go programs verify TLS through com.apple.trustd.agent, which is closed (x509: OSStatus -26276)",
		"enableWeakerNetworkIsolation: true opens it; it can reach the network itself")
	d.add("privacy", StateLess, "files in Desktop, Documents and Downloads are the system's to refuse, without a record here",
		"give your terminal access: System Settings, Privacy & Security, Files and Folders")
}
