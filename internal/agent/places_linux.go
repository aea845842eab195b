package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/process"
	"github.com/sallyport/sallyport/loader"
)

// places is where an agent keeps what outlives it. All of it follows from the
// state directory, so that two agents do not meet.
type places struct {
	state      string
	logs       string // the machine's audit log
	journals   string // one file a sandbox
	pins       string // a folder on a bpffs
	mounted    string // the bpffs, if it is the agent's own
	cgroup     string // the folder of the sandboxes' parent
	cgroupPath string // the same as /proc/PID/cgroup has it
	boot       string
}

const hostPins = "/sys/fs/bpf"

// placeName tells the agents of a machine apart.
func placeName(stateDir string) string {
	if stateDir == DefaultStateDir {
		return "sallyport"
	}
	sum := sha256.Sum256([]byte(stateDir))
	return "sallyport-" + hex.EncodeToString(sum[:6])
}

// findPlaces makes the folders that are missing.
func findPlaces(stateDir string) (p places, err error) {
	if stateDir, err = filepath.Abs(stateDir); err != nil {
		return p, fmt.Errorf("find state directory: %w", err)
	}
	p = places{state: stateDir, logs: filepath.Join(stateDir, "audit"), journals: filepath.Join(stateDir, "sandboxes")}
	for _, d := range []string{p.state, p.logs, p.journals} {
		if err := makePrivate(d); err != nil {
			return p, err
		}
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return p, fmt.Errorf("identify this boot: %w", err)
	}
	p.boot = strings.TrimSpace(string(boot))
	name := placeName(stateDir)
	if p.cgroup, err = cgroup.Parent(name); err != nil {
		return p, err
	}
	p.cgroupPath = "/" + name
	return p, p.findPins(name)
}

// makePrivate makes a directory that only root can look into.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("use %s: others may write to it", dir)
	}
	return nil
}

// findPins takes the host's bpffs, or mounts one: in the host's mount namespace,
// for pins go with the last mount of their file system.
func (p *places) findPins(name string) error {
	if isBPF(hostPins) {
		p.pins = filepath.Join(hostPins, name)
		return nil
	}
	p.mounted = filepath.Join(p.state, "bpf")
	if !isBPF(p.mounted) {
		if err := hostMounts(); err != nil {
			return err
		}
	}
	if err := loader.MountPins(p.mounted); err != nil {
		return err
	}
	p.pins = filepath.Join(p.mounted, name)
	return nil
}

func isBPF(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// hostMounts fails where a mount would be gone with this process.
func hostMounts() error {
	own, err := process.NamespaceOf("self", "mnt")
	if err != nil {
		return err
	}
	if first, err := process.NamespaceOf("1", "mnt"); err == nil && own != first {
		return errors.New("mount bpffs: this process has mounts of its own, which would go with it; mount one at " + hostPins)
	}
	return nil
}

// clear ends what is left of an agent: the sandboxes first, while they are still
// kept in.
func (p *places) clear() error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := cgroup.Sweep(p.cgroup, func(string, cgroup.Info) bool { return false }, killLimit); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(p.pins), os.RemoveAll(p.journals), os.Remove(p.cgroup))
}

func (p *places) unmount() error {
	if p.mounted == "" || !isBPF(p.mounted) {
		return nil
	}
	if err := unix.Unmount(p.mounted, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", p.mounted, err)
	}
	return os.Remove(p.mounted)
}

// lock fails while another process has the pins.
func (p *places) lock() (unlock func(), err error) {
	f, err := os.Open(p.pins)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pins: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", p.pins, loader.ErrInUse)
	}
	return func() { f.Close() }, nil
}

// journal is what a sandbox's record needs to be gone on with by a successor.
type journal struct {
	ID           string       `json:"id"`
	Boot         string       `json:"boot"`
	UID          uint32       `json:"uid"`
	GID          uint32       `json:"gid"`
	Cgroup       uint64       `json:"cgroup"`
	CallerPID    int          `json:"caller_pid"`
	CallerStart  uint64       `json:"caller_start"`
	Started      bool         `json:"started"`
	Own          []int        `json:"own"` // pids of stage 1, and of stage 2 once it is known
	Registration Registration `json:"registration"`
	// PolicySHA256 is of the policy that took the registered one's place; empty:
	// none has.
	PolicySHA256 string `json:"policy_sha256,omitempty"`
	// Ceiling is the administrator's, as it was when this was registered.
	Ceiling []policy.Source `json:"ceiling,omitempty"`
}

// policy is the one that was fixed at registration.
func (j *journal) policy() (*policy.Policy, error) { return j.Registration.parse(j.Ceiling) }

func (p *places) journal(id string) string { return filepath.Join(p.journals, id+".json") }

// write replaces a journal; a reader sees the old or the new one.
func (p *places) write(j *journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	next := p.journal(j.ID) + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := replace(next, p.journal(j.ID)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// replace gives a file another's name and removes what had it. A rename over it
// would have ext4 write the new one to the disk at once (auto_da_alloc, ext4(5)),
// for which its removal waits: 5 ms of the end of a run, for a file that is of no
// use after a boot.
func replace(next, name string) error {
	if unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE) != nil {
		return os.Rename(next, name) // there is none yet, or the file system cannot
	}
	return os.Remove(next)
}

// readJournals gives those of this boot and removes the others: after a boot
// nothing is left of their sandboxes.
func (p *places) readJournals() ([]*journal, error) {
	entries, err := os.ReadDir(p.journals)
	if err != nil {
		return nil, fmt.Errorf("read journals: %w", err)
	}
	var out []*journal
	var errs []error
	for _, e := range entries {
		name := filepath.Join(p.journals, e.Name())
		j := &journal{}
		b, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(b, j)
		}
		if err == nil && j.Boot == p.boot && name == p.journal(j.ID) {
			out = append(out, j)
			continue
		}
		errs = append(errs, os.Remove(name))
	}
	return out, errors.Join(errs...)
}
