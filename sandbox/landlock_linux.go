package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"github.com/sallyport/sallyport/internal/plan"
)

// Rights that change something, by the Landlock ABI that brought them
// (landlock(7)).
const (
	writeFile1  = ll.AccessFSWriteFile
	writeDir1   = ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeBlock | ll.AccessFSMakeSym
	writeDir2   = ll.AccessFSRefer
	writeFile3  = ll.AccessFSTruncate
	writeFile5  = ll.AccessFSIoctlDev
	landlockMax = 5
)

// writeRights gives the rights to handle: those of files and those that only
// directories have.
func writeRights(abi int) (file, dir landlock.AccessFSSet) {
	file, dir = writeFile1, writeDir1
	if abi >= 2 {
		dir |= writeDir2
	}
	if abi >= 3 {
		file |= writeFile3
	}
	if abi >= 5 {
		file |= writeFile5
	}
	return file, dir
}

// restrictWrites confines this process, and what it starts, to writing where
// the plan says. It closes what mounts leave open: FIFOs of the host, and
// descriptors opened again through /proc/self/fd, which keep the host's mount.
func restrictWrites(l plan.Landlock) error {
	if l.ABI == 0 {
		return nil
	}
	file, dir := writeRights(l.ABI)
	cfg, err := landlock.NewConfig(file | dir)
	if err != nil {
		return fmt.Errorf("configure landlock: %w", err)
	}
	rules, err := landlockPaths(l, file, dir)
	if err != nil {
		return err
	}
	if err := cfg.RestrictPaths(rules...); err != nil {
		return fmt.Errorf("restrict writes with landlock: %w", err)
	}
	return nil
}

func landlockPaths(l plan.Landlock, file, dir landlock.AccessFSSet) ([]landlock.Rule, error) {
	var rules []landlock.Rule
	for _, p := range l.Write {
		fi, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since the plan was made: nothing to write there
		}
		if err != nil {
			return nil, fmt.Errorf("restrict writes: %w", err)
		}
		rights := file
		if fi.IsDir() {
			rights |= dir
		}
		rules = append(rules, landlock.PathAccess(rights, p))
	}
	for _, p := range l.Devices {
		rules = append(rules, landlock.PathAccess(file, p))
	}
	// A device may be opened again by name (/dev/stderr): it is one of the
	// host's mount, /dev/null as a rule. It is never the caller's terminal.
	for _, fd := range []string{"/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"} {
		if fi, err := os.Stat(fd); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
			rules = append(rules, landlock.PathAccess(file, fd))
		}
	}
	return rules, nil
}
