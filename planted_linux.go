package sallyport

import (
	"fmt"
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
	stubs, err := sandbox.MakeStubs(dir, r.id, r.prep.plan)
	if err != nil {
		return err
	}
	r.stubs = append(r.stubs, stubs)
	r.before, err = r.protected()
	return err
}

// stub makes a placeholder while the command runs, where the host has removed
// what was masked. It has a journal of its own.
func (r *run) stub(s plan.Stub, m plan.Mount) error {
	dir := filepath.Join(r.prep.env.StateDir, "stubs")
	unlock, err := sandbox.LockStubs(dir)
	if err != nil {
		return err
	}
	defer unlock()
	made := &plan.Plan{Stubs: []plan.Stub{s}, Mounts: []plan.Mount{m}}
	stubs, err := sandbox.MakeStubs(dir, fmt.Sprintf("%s-%d", r.id, len(r.stubs)), made)
	if err != nil {
		return err
	}
	r.stubs = append(r.stubs, stubs)
	if len(made.Stubs) == 0 {
		return fmt.Errorf("make placeholder: %s cannot be written", s.Path)
	}
	return nil
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
