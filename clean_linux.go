package sallyport

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/internal/keeper"
	"github.com/sallyport/sallyport/internal/registry"
	"github.com/sallyport/sallyport/sandbox"
)

// Clean removes what runs of the caller's have left that were killed together
// with their supervisor: placeholders of protected files, entries in the list of
// running sandboxes, and as root cgroups. It names what it removed. The next run
// would do the same; what runs is not touched.
func Clean() (removed []string, err error) {
	env, err := runEnv(&Options{})
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(env.StateDir, "stubs")
	unlock, err := sandbox.LockStubs(dir)
	if err != nil {
		return nil, noLog(err)
	}
	removed, err = sandbox.SweepStubs(dir)
	unlock()
	removed = append(removed, registry.Sweep(registryDirs(), nil)...)
	if os.Geteuid() == 0 {
		groups, groupErr := keeper.Sweep()
		removed, err = append(removed, groups...), errors.Join(err, groupErr)
	}
	return removed, err
}
