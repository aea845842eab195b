package sallyport

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/audit"
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
	return nil
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

// reportPlanted records protected names that appeared below the write roots,
// which this tier cannot refuse, and moves them out of the way.
func (r *run) reportPlanted() []audit.Planted {
	after, err := r.protected()
	if err != nil {
		r.warn("look for new protected files: "+err.Error(), "")
		return nil
	}
	q := newQuarantine(r.prep.env.StateDir, r.id)
	defer q.close()
	var list []audit.Planted
	for _, p := range r.newNames(after) {
		if old, ok := r.known[identify(p.Path)]; ok {
			r.movedByHost(p, old)
			continue
		}
		list = append(list, r.putAside(q, p))
	}
	return list
}

// identity is of one file for all time: an inode's number is used again, with
// another time of birth.
type identity struct {
	device, inode uint64
	born          unix.StatxTimestamp
}

// identify gives the zero identity where there is none to be had.
func identify(path string) identity {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return identity{}
	}
	return identity{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, st.Btime}
}

// identifyProtected notes what protected files there are, the placeholders among
// them, and which they are.
func (r *run) identifyProtected() (err error) {
	if r.before, err = r.protected(); err != nil {
		return err
	}
	r.known = map[identity]string{}
	for p := range r.before {
		if id := identify(p.Path); id != (identity{}) && !p.Link { // a link is not covered
			r.known[id] = p.Path
		}
	}
	return nil
}

// movedByHost deals with a new name of a file that was protected under another:
// only the host could move it. A placeholder goes, the user's own file stays.
func (r *run) movedByHost(p plan.Protected, old string) {
	for _, s := range r.prep.plan.Stubs {
		if s.Path != old {
			continue
		}
		if s.Dir {
			_ = os.Remove(p.Path) // not empty: it has been put to use
		} else if b, err := (hostLooker{}).ReadFile(p.Path); err == nil && string(b) == s.Content {
			_ = os.Remove(p.Path) // it means nothing where it stays
		}
		return
	}
	r.recordNew(p, "appeared during the run: it is what was protected as "+old+", and was moved on the host")
}

// newNames lists each path once, parents before children.
func (r *run) newNames(after map[plan.Protected]bool) []plan.Protected {
	known := map[string]bool{}
	for p := range r.before {
		known[p.Path] = true
	}
	var list []plan.Protected
	for p := range after {
		if !known[p.Path] {
			known[p.Path] = true
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b plan.Protected) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// putAside deals with one new name, and records what became of it.
func (r *run) putAside(q *quarantine, p plan.Protected) audit.Planted {
	out := audit.Planted{Path: event.Text(p.Path), Rule: p.Rule.String()}
	detail := "appeared during the run: look at it before a program on the host does"
	if isInert(hostLooker{}, p.Path, r.wasRepository) {
		out.Inert = true
		detail = "appeared during the run: as git itself makes it, it runs nothing"
	} else if to, err := r.take(q, p.Path, out.Rule); err != nil {
		if _, gone := os.Lstat(p.Path); errors.Is(gone, fs.ErrNotExist) { // with what led to it
			detail = "appeared during the run, and has been moved with what led to it"
		}
		out.Error = event.Text(err.Error())
	} else {
		out.Kept = event.Text(to)
		detail = "appeared during the run: moved to " + to
	}
	r.recordNew(p, detail)
	return out
}

func (r *run) recordNew(p plan.Protected, detail string) {
	now := time.Now()
	r.record(event.Event{
		Verdict: event.Audit, Layer: event.LayerSupervisor, Operation: event.FileCreate,
		Object: event.Object{Path: event.Text(p.Path)}, Reason: event.PathProtected, Rule: p.Rule.String(),
		Detail: event.Text(detail), Count: 1, First: now, Last: now, Time: now,
	})
}

// take moves the file itself where links lead to it, if the payload could have
// made it there.
func (r *run) take(q *quarantine, name, rule string) (string, error) {
	to, err := q.take(name, rule)
	if !errors.Is(err, unix.ELOOP) {
		return to, err
	}
	dir, evalErr := filepath.EvalSymlinks(filepath.Dir(name))
	for _, root := range r.prep.plan.WriteRoots {
		if evalErr == nil && (dir == root || strings.HasPrefix(dir, root+"/")) {
			return q.take(filepath.Join(dir, filepath.Base(name)), rule)
		}
	}
	return to, err
}

// wasRepository reports whether a directory was git's before the run: then its
// configuration was protected.
func (r *run) wasRepository(gitDir string) bool {
	for p := range r.before {
		if p.Path == filepath.Join(gitDir, "config") {
			return true
		}
	}
	return false
}

// hostLooker follows no link in the last place.
type hostLooker struct{}

func (hostLooker) ReadFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxInertConfig+1))
}

func (h hostLooker) Names(name string) ([]string, error) {
	if !h.IsDir(name) {
		return nil, fs.ErrInvalid
	}
	entries, err := os.ReadDir(name)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

func (hostLooker) IsFile(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.Mode().IsRegular()
}

func (hostLooker) IsDir(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.IsDir()
}
