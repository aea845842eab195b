package sandbox

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maskTime is far above what one mask takes, on a busy machine too.
const maskTime = 10 * time.Millisecond

// maskRest puts up the masks that are too many for bubblewrap: as it is done for
// those that the host replaces, with everything inside still waiting.
func (s *Sandbox) maskRest() error {
	list := s.plan.LateMasks()
	if len(list) == 0 {
		return nil
	}
	pid, root, err := s.Root()
	if err != nil {
		return err
	}
	root.Close()
	g := &masks{box: s, list: list, gone: map[string]bool{}, root: -1, mount: -1, user: -1}
	defer g.closeFDs()
	if err := g.enter(pid); err != nil {
		return err
	}
	bare, missing, err := g.look()
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fail("try again", "mask %s: it was removed while the sandbox was made", missing[0].Path)
	}
	var mounts []rawMount
	for _, m := range bare {
		mounts = append(mounts, coverMounts(m.Mount, m.found.Mode&unix.S_IFMT == unix.S_IFDIR, m.keep)...)
	}
	if err := cover(g.user, g.mount, mounts); err != nil {
		return fmt.Errorf("put up masks: %w", err)
	}
	bare, missing, err = g.look()
	if err == nil && len(bare)+len(missing) > 0 {
		err = fail("try again", "put up masks: %s is not covered", append(bare, missing...)[0].Path)
	}
	return err
}
