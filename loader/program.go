package loader

import "github.com/sallyport/sallyport/internal/event"

// kind is how a program is attached.
type attachment uint8

const (
	attachNone attachment = iota
	attachCgroup
	attachTrace
	attachLSM // of the object lsm.bpf.c: all of them, or none
)

// program is one of the kernel's programs: the table is pure, so that what is
// required and what may be missing is decided without a kernel.
type program struct {
	name    string
	purpose string // "program NAME, which ..."
	since   string // the first Linux that can have it
	attach  attachment
	// optional programs may be missing on a kernel that is too old for them; all
	// others are needed, since part of the boundary or of the record would be
	// missing without a word.
	optional bool
}

var programs = []program{
	{"socket_create", "refuses kinds of sockets", "5.10", attachCgroup, false},
	{"connect4", "refuses IPv4 destinations", "5.10", attachCgroup, false},
	{"connect6", "refuses IPv6 destinations", "5.10", attachCgroup, false},
	{"sendmsg4", "refuses IPv4 datagrams", "5.10", attachCgroup, false},
	{"sendmsg6", "refuses IPv6 datagrams", "5.10", attachCgroup, false},
	{"socket_option", "refuses source routes", "5.10", attachCgroup, false},
	{"connecting", "remembers whose a connection is", "5.10", attachCgroup, false},
	{"asking", "remembers who asked a resolver", "5.10", attachCgroup, false},
	{"connect_unix", "refuses unix sockets by name", "6.7", attachCgroup, true},
	{"sendmsg_unix", "refuses datagrams to unix sockets by name", "6.7", attachCgroup, true},
	{"process_fork", "follows new processes", "5.10", attachTrace, false},
	{"process_exec", "follows new programs", "5.10", attachTrace, false},
	{"process_exit", "follows the end of processes", "5.10", attachTrace, false},
	{"syscall_exit", "records refused system calls", "5.10", attachTrace, false},
	{"lsm_create", "refuses sockets that no packet rule confines", "6.1", attachLSM, true},
	{"lsm_connect", "refuses to connect sockets from outside", "6.1", attachLSM, true},
	{"lsm_sendmsg", "refuses to send by sockets from outside", "6.1", attachLSM, true},
	{"lsm_listen", "refuses to listen at other sockets than the sandbox's", "6.1", attachLSM, true},
	{"lsm_unix_stream", "refuses unix sockets by whose they are", "6.1", attachLSM, true},
	{"lsm_unix_send", "refuses datagrams to unix sockets by whose they are", "6.1", attachLSM, true},
	{"lsm_receive", "refuses descriptors from outside", "6.1", attachLSM, true},
	{"lsm_userns", "refuses new user namespaces", "6.1", attachLSM, true},
	{"lsm_ptrace", "refuses to look into processes outside", "6.1", attachLSM, true},
	{"lsm_open", "refuses files by name", "6.1", attachLSM, true},
	{"lsm_mknod", "refuses new files by name", "6.1", attachLSM, true},
	{"lsm_mkdir", "refuses new folders by name", "6.1", attachLSM, true},
	{"lsm_symlink", "refuses new symbolic links by name", "6.1", attachLSM, true},
	{"lsm_link", "refuses other names of files", "6.1", attachLSM, true},
	{"lsm_rename", "refuses renames by either name", "6.1", attachLSM, true},
	{"lsm_unlink", "refuses the removal of files by name", "6.1", attachLSM, true},
	{"lsm_rmdir", "refuses the removal of folders by name", "6.1", attachLSM, true},
	{"lsm_truncate", "refuses to cut files by name", "6.1", attachLSM, true},
	{"lsm_chmod", "refuses changes of mode by name", "6.1", attachLSM, true},
}

// tier is the one that a program is needed for; none where it may be missing.
func (p program) tier() event.Tier {
	switch {
	case p.attach == attachLSM:
		return event.TierLSM
	case p.optional:
		return event.TierNone
	}
	return event.TierTrace
}
