package sallyport

import (
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox"
)

// plan plans the run and makes its placeholders in one go: neither may another
// run remove what this one has seen, nor what a crashed run left be planned on.
// Our own directory comes first, so that the plan hides it.
func (r *run) plan() error {
	env, err := runEnv(&r.opts)
	if err != nil {
		return err
	}
	r.opts.Policy.Env = env
	dir := filepath.Join(env.StateDir, "stubs")
	unlock, err := sandbox.LockStubs(dir)
	if err != nil {
		return noLog(err)
	}
	defer unlock()
	if _, err := sandbox.SweepStubs(dir); err != nil {
		r.warn(err.Error(), "remove the named files by hand")
	}
	if r.prep, err = prepare(&r.opts); err != nil {
		return err
	}
	if r.stubs, err = sandbox.MakeStubs(dir, r.id, r.prep.plan); err != nil {
		return err
	}
	r.before, err = r.protected()
	return err
}

// protected lists the protected paths below the write roots as they are now.
func (r *run) protected() (map[plan.Protected]bool, error) {
	found, err := plan.ScanProtected(hostFS{}, r.prep.policy.Files(), r.prep.plan.WriteRoots)
	if err != nil {
		return nil, err
	}
	set := map[plan.Protected]bool{}
	for _, p := range found {
		set[p] = true
	}
	return set, nil
}

// reportPlanted records protected names that appeared below the write roots:
// this tier cannot refuse what does not exist yet.
func (r *run) reportPlanted() {
	after, err := r.protected()
	if err != nil {
		r.warn("look for new protected files: "+err.Error(), "")
		return
	}
	now := time.Now()
	for p := range after {
		if r.before[p] {
			continue
		}
		r.record(event.Event{
			Verdict: event.Audit, Layer: event.LayerSupervisor, Operation: event.FileCreate,
			Object: event.Object{Path: event.Text(p.Path)}, Reason: event.PathProtected, Rule: p.Rule.String(),
			Detail: "appeared during the run: look at it before a program on the host does",
			Count:  1, First: now, Last: now, Time: now,
		})
	}
}
