package agent

import (
	"path"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// judge says whose denial it is: the policy's, with the rule, where it refuses
// the same; the host's own, where it does not.
func judge(p *policy.Policy, e *event.Event) {
	if e.Layer != event.LayerTrace || e.Reason != event.NotAllowed && e.Reason != event.System {
		return
	}
	name := string(e.Object.Path)
	if name == "" || !path.IsAbs(name) {
		return
	}
	d := p.DecideFile(e.Operation, path.Clean(name))
	switch {
	case d.Reason == event.RequestInvalid:
	case d.Allowed():
		e.Reason, e.Rule = event.System, "builtin:host"
	default:
		e.Reason, e.Rule = d.Reason, d.Rule.String()
	}
}
