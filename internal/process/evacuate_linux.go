package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
)

// Evacuate puts the processes of a group where their parents are, or to the top:
// they got into it by mistake, and must not be killed with it.
func Evacuate(g *cgroup.Group) error {
	mount, err := cgroup.Mount()
	if err != nil {
		return err
	}
	pids, err := g.Processes()
	for _, pid := range pids {
		path := "/"
		if st, e := readStatus(pid); e == nil && st.ppid > 0 {
			if b, e := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", st.ppid)); e == nil {
				path, _ = CgroupPath(string(b)) // empty: the top
			}
		}
		e := MoveTo(filepath.Join(mount, path), pid)
		if e != nil && !errors.Is(e, unix.ESRCH) {
			e = MoveTo(mount, pid)
		}
		if e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("put process %d back: %w", pid, e))
		}
	}
	return err
}

func MoveTo(dir string, pid int) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	return errors.Join(err, f.Close())
}
