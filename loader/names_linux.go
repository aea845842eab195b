package loader

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// Rules for what a policy has no word of.
const (
	rulePlant = "builtin:protected:bare-repository"
	ruleLost  = "builtin:path-too-deep"
)

// names fills in what an LSM program refused by name: as the kernel has it.
func (r *Record) names(d *denial) {
	o := &r.Event.Object
	part := func(p bpf.KernelPart) string { return joinNames(d.parts[p], d.state(p)) }
	o.Path, o.PathSource = event.Text(part(bpf.KernelPartPART_DIR)), "kernel"
	o.Truncated = d.state(bpf.KernelPartPART_DIR) == pathCut
	if d.state(bpf.KernelPartPART_DIR2) != pathAbsent {
		o.To = event.Text(part(bpf.KernelPartPART_DIR2))
		o.Truncated = o.Truncated || d.state(bpf.KernelPartPART_DIR2) == pathCut
	}
	switch bpf.LSMFileWhy(d.Args[0]) {
	case bpf.LSMFileWhyWHY_PLANT:
		r.Event.Rule = rulePlant
	case bpf.LSMFileWhyWHY_LOST:
		r.Event.Rule = ruleLost
	}
}

// testRules are those of a self-test's sandbox.
func (l *Loader) testRules(dir string) Rules {
	r := Rules{TCP: true, UDP: true, NoRefused: l.opts.Supervised}
	if real, err := filepath.EvalSymlinks(dir); err == nil && l.hasLSM() {
		r.Files = plan.CompileFiles(plan.FileRules{Rules: []plan.FileRule{{Kind: plan.FileProtect, Path: real}}})
	}
	return r
}

// provokeNames tries, in the sandbox's cgroup, everything that has a name. It is
// asked for before the file system is, which would refuse, too.
func provokeNames() {
	const there, not = "cgroup.procs", "not"
	if fd, err := unix.Open(there, unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		unix.Close(fd)
	}
	unix.Mknod(not, unix.S_IFIFO|0o600, 0)
	unix.Mkdir(not, 0o700)
	unix.Symlink(there, not)
	unix.Link(there, not)
	unix.Rename(there, not)
	unix.Unlink(there)
	unix.Rmdir("../self-test")
	unix.Truncate(there, 0)
	unix.Chmod(there, 0o600)
}
