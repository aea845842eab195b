package stage2

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Rights that change something, by the Landlock ABI that brought them
// (landlock(7)).
const (
	writeFile1 = ll.AccessFSWriteFile
	writeDir1  = ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeBlock | ll.AccessFSMakeSym
	writeDir2  = ll.AccessFSRefer
	writeFile3 = ll.AccessFSTruncate
	writeFile5 = ll.AccessFSIoctlDev
	// LandlockMax is the latest ABI that is used.
	LandlockMax = 5
)

// writeRights gives the rights to handle: those of files and those that only
// directories have.
func writeRights(abi int) (file, dir uint64) {
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

// restrictWrites confines the calling thread, and what it starts, to writing
// where the plan says. It closes what mounts leave open: FIFOs of the host, and
// descriptors opened again through /proc/self/fd, which keep the host's mount.
// The caller has locked the thread; the others of process 1 run nothing of the
// payload's, and restricting them too would wake each of them.
func restrictWrites(l Landlock) error {
	if l.ABI == 0 {
		return nil
	}
	file, dir := writeRights(l.ABI)
	ruleset, err := ll.LandlockCreateRuleset(&ll.RulesetAttr{HandledAccessFS: file | dir}, 0)
	if err != nil {
		return fmt.Errorf("make landlock ruleset: %w", err)
	}
	defer unix.Close(ruleset)
	if err := allowWrites(ruleset, l, file, dir); err != nil {
		return err
	}
	// landlock_restrict_self(2) wants it of who has not CAP_SYS_ADMIN.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := ll.LandlockRestrictSelf(ruleset, 0); err != nil {
		return fmt.Errorf("restrict writes with landlock: %w", err)
	}
	return nil
}

func allowWrites(ruleset int, l Landlock, file, dir uint64) error {
	for _, p := range l.Write {
		// Gone since the plan was made: nothing to write there.
		if err := allowBelow(ruleset, p, file, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, p := range l.Devices {
		if err := allowBelow(ruleset, p, file, 0); err != nil {
			return err
		}
	}
	// A device may be opened again by name (/dev/stderr): it is one of the
	// host's mount, /dev/null as a rule. It is never the caller's terminal.
	for _, fd := range []string{"/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"} {
		if fi, err := os.Stat(fd); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
			continue
		}
		if err := allowBelow(ruleset, fd, file, 0); err != nil {
			return err
		}
	}
	return nil
}

// allowBelow grants rights on a path and what is below it; those that only
// directories have (EINVAL for others), where it is one.
func allowBelow(ruleset int, path string, file, dir uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("restrict writes: open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("restrict writes: look at %s: %w", path, err)
	}
	rights := file
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		rights |= dir
	}
	if err := ll.LandlockAddPathBeneathRule(ruleset, &ll.PathBeneathAttr{AllowedAccess: rights, ParentFd: fd}, 0); err != nil {
		return fmt.Errorf("restrict writes: allow %s: %w", path, err)
	}
	return nil
}
