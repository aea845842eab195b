package plan

import "fmt"

// Arch is an architecture whose system calls are known. The zero value is none.
type Arch uint8

const (
	ArchInvalid Arch = iota
	ArchAMD64
	ArchARM64
)

// ParseArch reads a GOARCH.
func ParseArch(goarch string) (Arch, error) {
	switch goarch {
	case "amd64":
		return ArchAMD64, nil
	case "arm64":
		return ArchARM64, nil
	}
	return ArchInvalid, fmt.Errorf("filter system calls: architecture %q is not supported", goarch)
}

// Audit is the AUDIT_ARCH of linux/audit.h by which a filter sees which table
// a system call's number is from.
func (a Arch) Audit() uint32 {
	switch a {
	case ArchAMD64:
		return 0xc000003e
	case ArchARM64:
		return 0xc00000b7
	}
	return 0
}

// Syscall is the number of a call; ok is false if a has no such call.
func (a Arch) Syscall(name string) (nr uint32, ok bool) {
	n, known := syscalls[name]
	switch {
	case !known || a == ArchInvalid:
		return 0, false
	case a == ArchAMD64:
		return n.amd64, true
	}
	return n.arm64, n.arm64 != absent
}

const absent = ^uint32(0)

// syscalls has the numbers of the calls that the rules name. From 424 on they
// are the same everywhere.
var syscalls = map[string]struct{ amd64, arm64 uint32 }{
	"acct":              {163, 89},
	"add_key":           {248, 217},
	"bpf":               {321, 280},
	"chroot":            {161, 51},
	"clone":             {56, 220},
	"clone3":            {435, 435},
	"connect":           {42, 203},
	"delete_module":     {176, 106},
	"fcntl":             {72, 25},
	"finit_module":      {313, 273},
	"fsconfig":          {431, 431},
	"fsmount":           {432, 432},
	"fsopen":            {430, 430},
	"fspick":            {433, 433},
	"init_module":       {175, 105},
	"io_uring_enter":    {426, 426},
	"io_uring_register": {427, 427},
	"io_uring_setup":    {425, 425},
	"ioctl":             {16, 29},
	"ioperm":            {173, absent},
	"iopl":              {172, absent},
	"kcmp":              {312, 272},
	"kexec_file_load":   {320, 294},
	"kexec_load":        {246, 104},
	"keyctl":            {250, 219},
	"mount":             {165, 40},
	"mount_setattr":     {442, 442},
	"move_mount":        {429, 429},
	"open_by_handle_at": {304, 265},
	"open_tree":         {428, 428},
	"open_tree_attr":    {467, 467},
	"perf_event_open":   {298, 241},
	"pidfd_getfd":       {438, 438},
	"pivot_root":        {155, 41},
	"process_madvise":   {440, 440},
	"process_vm_readv":  {310, 270},
	"process_vm_writev": {311, 271},
	"ptrace":            {101, 117},
	"quotactl":          {179, 60},
	"quotactl_fd":       {443, 443},
	"reboot":            {169, 142},
	"request_key":       {249, 218},
	"setns":             {308, 268},
	"socket":            {41, 198},
	"socketpair":        {53, 199},
	"swapoff":           {168, 225},
	"swapon":            {167, 224},
	"syslog":            {103, 116},
	"umount2":           {166, 39},
	"unshare":           {272, 97},
	"userfaultfd":       {323, 282},
	"vhangup":           {153, 58},
}
