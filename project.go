package sallyport

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/sallyport/sallyport/internal/policy"
)

// ProjectPolicy is the name of a policy that comes with a repository.
const ProjectPolicy = ".sallyport.yaml"

// projectPolicies gives the policies of the working directory and of all above
// it, the nearest last, each as trusted as it is; and what it passed over.
func projectPolicies(env policy.Env) ([]policy.Source, []policy.Warning, error) {
	var sources []policy.Source
	var notes []policy.Warning
	store := trustStore(env.StateDir)
	for dir := env.Cwd; ; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, ProjectPolicy)
		data, err := readOwn(name)
		var foreign *foreignError
		switch {
		case err == nil:
			s := policy.Source{Name: name, Data: data, Dir: dir, Path: ResolvePath(name), Layer: policy.LayerProject}
			ok, err := store.Has(name, data)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				s.Layer = policy.LayerTrusted
			}
			sources = append(sources, s)
		case errors.As(err, &foreign):
			notes = append(notes, policy.Warning{Rule: policy.Rule{File: name, Line: 1}, Message: err.Error() + ": it is ignored"})
		case errors.Is(err, syscall.ENAMETOOLONG):
			return nil, nil, &Error{Err: errors.New("read the project's policy: the path of the working directory is too long"), Status: statusFailed,
				Hint: "change to a directory that is not as deep"}
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
			return nil, nil, fmt.Errorf("read the project's policy: %w", err)
		}
		if dir == filepath.Dir(dir) {
			slices.Reverse(sources)
			return sources, notes, nil
		}
	}
}

type foreignError struct{ path, why string }

func (e *foreignError) Error() string { return e.path + " " + e.why }

// readOwn reads a file that is the user's own. Somebody else could put one into
// a directory above, and make it what nobody can read.
func readOwn(name string) ([]byte, error) {
	link, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := own(name, link); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO has no end
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := own(name, info); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return io.ReadAll(io.LimitReader(f, policy.MaxBytes+1))
}

func own(name string, info fs.FileInfo) error {
	if uid, known := ownerOf(info); known && uid != os.Geteuid() {
		return &foreignError{name, fmt.Sprintf("belongs to user %d, not to you", uid)}
	}
	return nil
}

// ReadProject reads a project's policy as if it were trusted: what it would
// open, a line each, and its bytes. What must not be in it is a policy.Errors.
func ReadProject(name string) (opens []string, data []byte, err error) {
	data, err = readOwn(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read the project's policy: %w", err)
	}
	f, err := policy.Parse(policy.Source{Name: name, Data: data, Dir: filepath.Dir(name), Layer: policy.LayerTrusted})
	if err != nil {
		return nil, nil, err
	}
	return f.Opens(), data, nil
}

// CheckProject gives the problems that a file has as a project's policy.
func CheckProject(name string) (policy.Errors, error) {
	_, _, err := ReadProject(name)
	var problems policy.Errors
	if errors.As(err, &problems) {
		return problems, nil
	}
	return nil, err
}
