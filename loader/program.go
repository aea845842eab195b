package loader

// kind is how a program is attached.
type attachment uint8

const (
	attachNone attachment = iota
	attachCgroup
	attachTrace
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
}
