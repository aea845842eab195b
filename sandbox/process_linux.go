package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// Who is behind a connection that was made without connect(2), or without the
// supervisor, or behind a packet, is looked up after the fact: the socket by its
// addresses (sock_diag(7)), its holder in /proc. That can fail, where the process
// has gone or the socket was handed on; then nobody is named rather than somebody
// else.
const (
	maxAncestors   = 16
	lookupsPerSec  = 200 // a flood must not turn into a flood of look-ups in /proc
	maxHeldSockets = 4096
)

// processes finds who is behind a connection.
type processes struct {
	mu     sync.Mutex
	diag   *os.File // a sock_diag socket of the sandbox's namespace
	root   int      // bubblewrap: everything in the sandbox descends from it
	left   int      // look-ups in this second
	second int64
}

// ProcessOf names the process that holds the client's end of a connection, and
// its ancestors inside the sandbox, nearest first. Both are nil where that is
// not known. proto is "tcp" or "udp".
func (s *Sandbox) ProcessOf(proto string, client, origin netip.AddrPort) (*event.Process, []event.Process) {
	if proto == "tcp" {
		if who, ok := s.opened.take(client, origin); ok {
			return who.process, who.ancestors
		}
	}
	id := socketID{proto: protoTCP, local: client, remote: origin}
	if proto == "udp" {
		id.proto = protoUDP
	}
	return s.who.find(diagRequest(id), diagInode)
}

// ProcessOfUnix is ProcessOf for a unix socket, by the inode number of the end
// that was accepted. SO_PEERCRED does not tell: it is the supervisor that
// performs a payload's connect(2).
func (s *Sandbox) ProcessOfUnix(accepted uint64) (*event.Process, []event.Process) {
	return s.who.find(unixRequest(uint32(accepted)), unixPeer)
}

// find asks sock_diag for the inode number of the payload's socket, and /proc
// for who holds it.
func (p *processes) find(request []byte, inodeOf func(answer []byte) (uint32, error)) (*event.Process, []event.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.allowed(time.Now().Unix()) {
		return nil, nil
	}
	answer, err := p.ask(request)
	if err != nil {
		return nil, nil
	}
	inode, err := inodeOf(answer)
	if err != nil || inode == 0 {
		return nil, nil
	}
	tree := descendants(p.root)
	pid := holder(tree, inode)
	if pid == 0 {
		return nil, nil
	}
	who := readProcess(pid)
	if who == nil {
		return nil, nil
	}
	return who, ancestors(tree, pid)
}

// allowed counts a look-up against this second's.
func (p *processes) allowed(now int64) bool {
	if now != p.second {
		p.second, p.left = now, lookupsPerSec
	}
	p.left--
	return p.left >= 0
}

func (p *processes) ask(request []byte) ([]byte, error) {
	if p.diag == nil {
		return nil, errNoSocket
	}
	fd := int(p.diag.Fd())
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask sock_diag: %w", err)
	}
	buf := make([]byte, 1024)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return nil, fmt.Errorf("ask sock_diag: %w", err)
	}
	return buf[:n], nil
}

// Payload describes the command itself, as long as it runs: the first process
// that stage 2 has made.
func (s *Sandbox) Payload() *event.Process {
	init, first := s.calls.inside.init, 0
	for pid, parent := range descendants(init) {
		if parent == init && (first == 0 || pid < first) {
			first = pid
		}
	}
	return readProcess(first)
}

// limitDiag keeps a kernel without inet_diag from holding the proxy up.
func limitDiag(f *os.File) error {
	if err := unix.SetsockoptTimeval(int(f.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return fmt.Errorf("set the timeout of sock_diag: %w", err)
	}
	return nil
}

// descendants maps every process below root, root left out, to its parent
// (/proc/PID/task/TID/children, proc_tid_children(5), Linux 3.5).
func descendants(root int) map[int]int {
	tree := map[int]int{}
	todo := []int{root}
	for len(todo) > 0 {
		pid := todo[0]
		todo = todo[1:]
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
		for _, l := range lists {
			b, _ := os.ReadFile(l) // ended meanwhile: it holds nothing
			for _, f := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(f); err == nil && tree[child] == 0 {
					tree[child] = pid
					todo = append(todo, child)
				}
			}
		}
	}
	return tree
}

// holder finds the process that has a descriptor of a socket. Where several
// have, as after fork(2), it is the youngest: the parent of a worker holds its
// sockets too.
func holder(tree map[int]int, inode uint32) int {
	want := fmt.Sprintf("socket:[%d]", inode)
	var found int
	for pid := range tree {
		if pid > found && holds(pid, want) {
			found = pid
		}
	}
	return found
}

func holds(pid int, want string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxHeldSockets)
	for _, n := range names {
		if link, err := os.Readlink(dir + "/" + n); err == nil && link == want {
			return true
		}
	}
	return false
}

// ancestors walks up to, and leaves out, process 1 of the sandbox.
func ancestors(tree map[int]int, pid int) []event.Process {
	var out []event.Process
	for len(out) < maxAncestors {
		parent, ok := tree[pid]
		if !ok || tree[parent] == 0 || tree[tree[parent]] == 0 {
			break
		}
		if p := readProcess(parent); p != nil {
			out = append(out, *p)
		}
		pid = parent
	}
	return out
}

// readProcess describes a process, nil if it has ended.
func readProcess(pid int) *event.Process {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := readProc(dir + "stat")
	if err != nil {
		return nil
	}
	comm, start, err := parseStat(string(stat))
	if err != nil {
		return nil
	}
	p := &event.Process{PID: pid, Comm: event.Text(comm), ExecID: fmt.Sprintf("%d:%s", pid, start)}
	var st syscall.Stat_t
	if syscall.Stat(dir+"exe", &st) == nil {
		p.ExeDevIno = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	if syscall.Stat(strings.TrimSuffix(dir, "/"), &st) == nil {
		p.UID = st.Uid
	}
	exe, _ := os.Readlink(dir + "exe") // what cannot be read stays empty
	cwd, _ := os.Readlink(dir + "cwd")
	p.Exe, p.Cwd = event.Text(exe), event.Text(cwd)
	cmdline, _ := readProc(dir + "cmdline")
	for _, arg := range strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00") {
		p.Argv = append(p.Argv, event.Text(arg))
	}
	return p
}

// parseStat takes comm and start time (field 22) from /proc/PID/stat. comm is
// the process's to choose and may hold spaces and parentheses: the last one
// ends it (proc_pid_stat(5)).
func parseStat(s string) (comm, start string, err error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return "", "", errors.New("read stat: no command in parentheses")
	}
	fields := strings.Fields(s[end+1:])
	if len(fields) < 20 {
		return "", "", fmt.Errorf("read stat: %d fields after the command", len(fields))
	}
	return s[open+1 : end], fields[19], nil
}
