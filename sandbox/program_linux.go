package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is a list of system calls that a new process makes, in order, between
// clone and exec. A copy of this process has one thread and no Go runtime to
// speak of, and one that shares its memory must leave it alone: memory cannot be
// allocated, stacks cannot grow, nothing may lock.
// Interpreting a list that was made before needs none of that, and saves the
// start of another runtime: 5 ms of a run.
type program struct {
	calls []call
	names []string // what each call does, for its errors
	// results are of the calls that save one: descriptors, and the numbers of
	// errors that do not matter.
	results [maxResults]uint32
	used    int
	control uintptr   // the descriptor to which a failure is reported
	failure [2]uint32 // 1 + the number of the call, errno
	mask    uint64    // the signal mask to restore
	keep    []any     // what the calls point at
	room    []byte    // for more strings, kept already
}

// newProgram gives one that stays where it is.
//
//go:noinline
func newProgram() *program { return &program{} }

const maxResults = 32

// call is one system call.
type call struct {
	nr   uintptr
	args [6]uintptr
	from [6]int8 // 1 + the result to take as argument; 0: args has it
	save int8    // 1 + where the result goes; 0: nowhere
	// optional calls may fail. Then so many calls after them are left out, and
	// the number of the error goes to errno, if that is not 0.
	optional bool
	skip     int8
	errno    int8 // 1 + a result
	// tolerated is an error that does not matter.
	tolerated syscall.Errno
	// positive calls fail if they return 0, as a read at the end of a file does.
	positive bool
}

// result is an argument that is known only when the program runs.
type result int

// add appends a call. Its arguments are numbers, results, and strings and byte
// slices, which are passed by address; a string is terminated by NUL.
func (p *program) add(name string, nr uintptr, args ...any) *call {
	c := call{nr: nr}
	for i, a := range args {
		switch a := a.(type) {
		case int:
			c.args[i] = uintptr(a)
		case uintptr:
			c.args[i] = a
		case result:
			c.from[i] = int8(a) + 1
		case string:
			c.args[i] = p.cstring(a)
		case []byte:
			c.args[i] = p.address(a)
		default:
			panic(fmt.Sprintf("argument %d of %q is a %T", i, name, a))
		}
	}
	return p.append(name, c)
}

func (p *program) append(name string, c call) *call {
	p.calls, p.names = append(p.calls, c), append(p.names, name)
	return &p.calls[len(p.calls)-1]
}

// reserve sets places for n results aside, one behind the other.
func (p *program) reserve(n int) result {
	r := result(p.used)
	p.used += n
	return r
}

// save keeps what the last call will return.
func (p *program) save() result {
	r := p.reserve(1)
	p.saveAs(r)
	return r
}

func (p *program) saveAs(r result) { p.calls[len(p.calls)-1].save = int8(r) + 1 }

// writeFile writes a file of /proc. Where it cannot be opened or written and
// errno is given, the number of the error goes there.
func (p *program) writeFile(path, content string, errno ...result) {
	first := len(p.calls)
	p.add("open "+path, unix.SYS_OPENAT, atCWD, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	fd := p.save()
	data := []byte(content)
	p.add("write "+path, unix.SYS_WRITE, fd, data, len(data))
	p.add("close "+path, unix.SYS_CLOSE, fd)
	if len(errno) > 0 {
		for i, skip := range []int8{2, 0} {
			c := &p.calls[first+i]
			c.optional, c.skip, c.errno = true, skip, int8(errno[0])+1
		}
	}
}

const atCWD = ^uintptr(99) // AT_FDCWD, -100

// address gives the address of b, which the program keeps: what is on the heap
// stays where it is.
func (p *program) address(b []byte) uintptr {
	p.keep = append(p.keep, b)
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// cstring gives the address of a string that NUL terminates.
func (p *program) cstring(s string) uintptr {
	if len(s) >= len(p.room) {
		p.room = make([]byte, max(min(16*len(p.calls), 1<<20), 4<<10, len(s)+1))
		p.keep = append(p.keep, p.room)
	}
	at := p.room
	p.room = p.room[copy(at, s)+1:]
	return uintptr(unsafe.Pointer(unsafe.SliceData(at)))
}

// array gives the address of a NULL-terminated array of C strings.
func (p *program) array(list []string) uintptr {
	a := make([]uintptr, len(list)+1)
	for i, s := range list {
		a[i] = p.cstring(s)
	}
	p.keep = append(p.keep, a)
	return uintptr(unsafe.Pointer(unsafe.SliceData(a)))
}

// explain gives the error behind a failure that a program has reported.
func (p *program) explain(failure [2]uint32) error {
	i, errno := int(failure[0])-1, syscall.Errno(failure[1])
	switch {
	case i < 0 || i >= len(p.names):
		return fmt.Errorf("step %d of %d failed", i, len(p.names))
	case errno == 0:
		return fmt.Errorf("%s: nothing came", p.names[i])
	}
	return fmt.Errorf("%s: %w", p.names[i], errno)
}

// fork starts the program in a copy of this process. The caller is locked to its
// thread. Signals are blocked across the call, since
// the handlers in the copy are the runtime's; the program's last steps give
// them their defaults and unblock them.
func (p *program) fork() (int, error) { return p.start(p.clone, 0) }

// forkSharing is fork for the program of a process in new namespaces: see
// cloneSharing.
func (p *program) forkSharing(flags uintptr) (int, error) { return p.start(p.cloneSharing, flags) }

func (p *program) start(clone func(uintptr) (uintptr, syscall.Errno), flags uintptr) (int, error) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, fmt.Errorf("block signals: %w", err)
	}
	p.mask = old.Val[0]
	pid, errno := clone(flags)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return 0, fmt.Errorf("unblock signals: %w", err)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

// clone returns in the parent only. It and run keep to what a forked copy can
// do; their stack is checked by the linker.
//
//go:norace
//go:nosplit
//go:noinline
func (p *program) clone(flags uintptr) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	runAndExit(p)
	return 0, 0
}

// runAndExit never returns.
//
//go:norace
//go:nosplit
//go:noinline
func runAndExit(p *program) {
	p.run()
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 125, 0, 0, 0, 0, 0)
	}
}

// run makes the calls, and returns after one that failed.
//
//go:norace
//go:nosplit
//go:noinline
func (p *program) run() {
	var a [6]uintptr
	for i := 0; i < len(p.calls); i++ {
		c := &p.calls[i]
		for j := range a {
			a[j] = c.args[j]
			if c.from[j] != 0 {
				a[j] = uintptr(p.results[c.from[j]-1])
			}
		}
		r, _, errno := syscall.RawSyscall6(c.nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if c.optional && errno != 0 {
			if c.errno != 0 {
				p.results[c.errno-1] = uint32(errno)
			}
			i += int(c.skip)
			continue
		}
		if errno != 0 && errno != c.tolerated || c.positive && r == 0 {
			p.failure[0], p.failure[1] = uint32(i)+1, uint32(errno)
			syscall.RawSyscall6(unix.SYS_WRITE, p.control, uintptr(unsafe.Pointer(&p.failure)), unsafe.Sizeof(p.failure), 0, 0, 0)
			return
		}
		if c.save != 0 {
			p.results[c.save-1] = uint32(r)
		}
	}
}

// kernelSigaction is the kernel's struct sigaction; only its handler matters
// here, and it comes first on every architecture.
type kernelSigaction [4]uintptr

const kernelSigsetSize = 8

// resetSignals adds the steps that give the signals that this process catches
// their defaults, as execve(2) would, and only then let them come: the handlers
// are the runtime's. What is ignored stays so.
func (p *program) resetSignals() {
	dfl := new(kernelSigaction)
	p.keep = append(p.keep, dfl)
	for sig := uintptr(1); sig <= 64; sig++ {
		var old kernelSigaction
		const ignore = 1 // SIG_IGN
		_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&old)), kernelSigsetSize, 0, 0)
		if errno == 0 && old[0] > ignore {
			p.add("reset a signal", unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(dfl)), 0, kernelSigsetSize)
		}
	}
	p.add("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.mask)), 0, kernelSigsetSize)
}
