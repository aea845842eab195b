package loader

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

// operations maps the programs' operations to the events'.
var operations = [...]event.Operation{
	bpf.KernelOpOP_NONE:         event.OpUnknown,
	bpf.KernelOpOP_NET_CONNECT:  event.NetConnect,
	bpf.KernelOpOP_NET_UDP:      event.NetUDP,
	bpf.KernelOpOP_NET_ICMP:     event.NetICMP,
	bpf.KernelOpOP_NET_BIND:     event.NetBind,
	bpf.KernelOpOP_NET_RAW:      event.NetRaw,
	bpf.KernelOpOP_NET_SOCKET:   event.NetSocket,
	bpf.KernelOpOP_UNIX_CONNECT: event.UnixConnect,
	bpf.KernelOpOP_FILE_READ:    event.FileRead,
	bpf.KernelOpOP_FILE_WRITE:   event.FileWrite,
	bpf.KernelOpOP_FILE_CREATE:  event.FileCreate,
	bpf.KernelOpOP_FILE_DELETE:  event.FileDelete,
	bpf.KernelOpOP_FILE_RENAME:  event.FileRename,
	bpf.KernelOpOP_FILE_LINK:    event.FileLink,
	bpf.KernelOpOP_FILE_META:    event.FileMeta,
	bpf.KernelOpOP_FILE_EXEC:    event.FileExec,
	bpf.KernelOpOP_NS_CREATE:    event.NSCreate,
	bpf.KernelOpOP_SYS_REFUSED:  event.SysRefused,
}

func operation(op uint8) event.Operation {
	if int(op) < len(operations) {
		return operations[op]
	}
	return event.OpUnknown
}

// hooks are the programs that refuse by themselves.
var hooks = map[bpf.KernelHook]string{
	bpf.KernelHookHOOK_SOCKET:     "socket",
	bpf.KernelHookHOOK_CONNECT:    "connect",
	bpf.KernelHookHOOK_SENDMSG:    "sendmsg",
	bpf.KernelHookHOOK_SETSOCKOPT: "setsockopt",
	bpf.KernelHookHOOK_UNIX:       "connect",
}

// recorders are those that see system calls fail.
var recorders = map[bpf.KernelHook]string{
	bpf.KernelHookHOOK_EXIT: syscallExit,
	bpf.KernelHookHOOK_CALL: callExit,
	bpf.KernelHookHOOK_NAME: "name",
	bpf.KernelHookHOOK_RING: "io_uring",
}

// lsmHook says what of an LSM program's refusals an event has.
type lsmHook struct {
	program string
	call    string // the hook, which stands where others have a system call
	rule    string
	reason  event.Reason
}

var lsmHooks = map[bpf.KernelHook]lsmHook{
	bpf.KernelHookHOOK_LSM_SOCKET:      {"lsm_create", "socket_create", "builtin:socket-family", event.SocketRefused},
	bpf.KernelHookHOOK_LSM_CONNECT:     {"lsm_connect", "socket_connect", "builtin:foreign-socket", event.SocketRefused},
	bpf.KernelHookHOOK_LSM_SENDMSG:     {"lsm_sendmsg", "socket_sendmsg", "builtin:foreign-socket", event.SocketRefused},
	bpf.KernelHookHOOK_LSM_LISTEN:      {"lsm_listen", "socket_listen", "builtin:foreign-socket", event.SocketRefused},
	bpf.KernelHookHOOK_LSM_UNIX_STREAM: {"lsm_unix_stream", "unix_stream_connect", "builtin:unix-socket", event.NotAllowed},
	bpf.KernelHookHOOK_LSM_UNIX_SEND:   {"lsm_unix_send", "unix_may_send", "builtin:unix-socket", event.NotAllowed},
	bpf.KernelHookHOOK_LSM_RECEIVE:     {"lsm_receive", "file_receive", "builtin:foreign-descriptor", event.SocketRefused},
	bpf.KernelHookHOOK_LSM_USERNS:      {"lsm_userns", "userns_create", "builtin:no-user-namespaces", event.SyscallRefused},
	bpf.KernelHookHOOK_LSM_PTRACE:      {"lsm_ptrace", "ptrace_access_check", "builtin:no-outside-processes", event.SyscallRefused},
	bpf.KernelHookHOOK_LSM_OPEN:        {"lsm_open", "file_open", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_MKNOD:       {"lsm_mknod", "path_mknod", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_MKDIR:       {"lsm_mkdir", "path_mkdir", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_SYMLINK:     {"lsm_symlink", "path_symlink", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_LINK:        {"lsm_link", "path_link", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_RENAME:      {"lsm_rename", "path_rename", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_UNLINK:      {"lsm_unlink", "path_unlink", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_RMDIR:       {"lsm_rmdir", "path_rmdir", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_TRUNCATE:    {"lsm_truncate", "path_truncate", "", event.PathProtected},
	bpf.KernelHookHOOK_LSM_CHMOD:       {"lsm_chmod", "path_chmod", "", event.PathProtected},
}

// names are the system calls' names by their number in the programs.
type names []string

// namesOf takes the names from the enum that the programs were built with.
func namesOf(spec *ebpf.CollectionSpec) (names, error) {
	var calls *btf.Enum
	if err := spec.Types.TypeByName("call_id", &calls); err != nil {
		return nil, fmt.Errorf("find names of system calls: %w", err)
	}
	n := make(names, len(calls.Values))
	for _, v := range calls.Values {
		if v.Value < uint64(len(n)) {
			n[v.Value] = strings.ToLower(strings.TrimPrefix(v.Name, "CALL_"))
		}
	}
	return n, nil
}

func (n names) of(id uint16) string {
	if int(id) < len(n) {
		return n[id]
	}
	return "unknown"
}

// attachType is where a cgroup program is attached.
func attachType(name string) ebpf.AttachType {
	return map[string]ebpf.AttachType{
		"socket_create": ebpf.AttachCGroupInetSockCreate,
		"connect4":      ebpf.AttachCGroupInet4Connect,
		"connect6":      ebpf.AttachCGroupInet6Connect,
		"sendmsg4":      ebpf.AttachCGroupUDP4Sendmsg,
		"sendmsg6":      ebpf.AttachCGroupUDP6Sendmsg,
		"socket_option": ebpf.AttachCGroupSetsockopt,
		"connecting":    ebpf.AttachCGroupSockOps,
		"asking":        ebpf.AttachCGroupInetEgress,
		"connect_unix":  ebpf.AttachCgroupUnixConnect,
		"sendmsg_unix":  ebpf.AttachCgroupUnixSendmsg,
	}[name]
}
