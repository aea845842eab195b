package sandbox

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

const afUNIX = 1

// maxSockaddr is sizeof(struct sockaddr_storage): more is EINVAL to the kernel.
const maxSockaddr = 128

// unixPath gives the path in a struct sockaddr_un (unix(7)). There is none in
// an abstract or unnamed address, nor in one of another family: these lead to
// no file, and the kernel may judge them.
func unixPath(addr []byte) (string, bool) {
	const header, size = 2, 110 // sun_family; sizeof(struct sockaddr_un)
	if len(addr) <= header || len(addr) > size || binary.NativeEndian.Uint16(addr) != afUNIX || addr[header] == 0 {
		return "", false
	}
	path, _, _ := bytes.Cut(addr[header:], []byte{0})
	return string(path), true
}

// unixAddress makes a struct sockaddr_un of a path.
func unixAddress(path string) []byte {
	b := binary.NativeEndian.AppendUint16(nil, afUNIX)
	return append(append(b, path...), 0)
}

// plainNetlink reports whether an address of a netlink socket is the kernel's:
// any other takes a capability, which the supervisor has in the payload's place.
func plainNetlink(addr []byte) bool {
	for i := 4; i < len(addr); i++ { // family, padding; port and groups
		if addr[i] != 0 {
			return false
		}
	}
	return true
}

// boundSockets gives the inodes of the sockets that are bound to a path and not
// connected, from a network namespace's /proc/PID/net/unix (proc_pid_net(5)).
// The paths are the payload's and may hold line breaks: an inode found here is a
// hint, not a fact.
func boundSockets(table string) map[uint64]bool {
	found := map[uint64]bool{}
	for line := range strings.Lines(table) {
		// Num RefCount Protocol Flags Type St Inode Path; St 01: not connected
		f := strings.Fields(line)
		if len(f) < 8 || f[5] != "01" || f[7][0] == '@' {
			continue
		}
		if inode, err := strconv.ParseUint(f[6], 10, 64); err == nil {
			found[inode] = true
		}
	}
	return found
}
