package sallyport

import (
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// ruleSystem names what no rule of ours refused: permissions of the host's
// files, limits of the kernel, probes that found nothing to be allowed to do.
const ruleSystem = "builtin:system"

// ruleHeld is that of a name that a mount of the sandbox holds in place, for
// something below that no rule names: a protected file that was there.
const ruleHeld = "builtin:held"

// classify says whose denial it was that the kernel reported: the policy's, if
// that would refuse the same; else the host's own, reason system.
func classify(p *policy.Policy, e *event.Event) {
	if e.Rule != "" { // a program that enforces has said
		return
	}
	switch {
	case e.Operation == event.NetUDP, e.Operation == event.NetICMP:
		e.Reason, e.Rule = event.ProtocolDenied, "builtin:tcp-and-dns-only"
		return
	case isFile(e.Operation):
		if d := fileDecision(p, e); !d.Allowed() && d.Reason != event.RequestInvalid {
			e.Reason, e.Rule, e.Detail = d.Reason, d.Rule.String(), event.Text(d.Text)
			return
		}
		if e.Errno == "EBUSY" {
			e.Reason, e.Rule, e.Detail = event.PathProtected, ruleHeld, "a mount holds it in place, or something below it"
			return
		}
	}
	e.Reason, e.Rule = event.System, ruleSystem
}

// fileDecision decides on what a denial aimed at. Of a path whose beginning is
// not known nothing can be said.
func fileDecision(p *policy.Policy, e *event.Event) policy.Decision {
	d := decidePath(p, e.Operation, string(e.Object.Path))
	if e.Object.To != "" && d.Allowed() {
		d = decidePath(p, e.Operation, string(e.Object.To))
	}
	return d
}

func decidePath(p *policy.Policy, op event.Operation, path string) policy.Decision {
	if !strings.HasPrefix(path, "/") {
		return policy.Decision{Verdict: event.Allow}
	}
	return p.DecideFile(op, path)
}

// suggestFile gives the smallest change that would let a denied file operation
// through; none where the policy does not refuse it, or other layers would.
func suggestFile(p *policy.Policy, e event.Event) string {
	return fileDecision(p, &e).Fix
}

// fileOperations are those that a policy's file rules decide.
var fileOperations = []event.Operation{event.FileRead, event.FileExec, event.FileWrite, event.FileCreate,
	event.FileDelete, event.FileRename, event.FileLink, event.FileMeta}

func isFile(op event.Operation) bool { return slices.Contains(fileOperations, op) }
