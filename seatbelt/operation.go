package seatbelt

import (
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// operations maps what a report calls an operation to the event's. What is not
// listed, nor of a family below, is a refused system service.
var operations = map[string]event.Operation{
	"file-read*":           event.FileRead,
	"file-test-existence":  event.FileRead,
	"file-search":          event.FileRead,
	"file-write*":          event.FileWrite,
	"file-write-data":      event.FileWrite,
	"file-write-create":    event.FileCreate,
	"file-clone":           event.FileCreate,
	"file-write-unlink":    event.FileDelete,
	"file-link":            event.FileLink,
	"forbidden-link-priv":  event.FileLink,
	"file-map-executable":  event.FileExec,
	"forbidden-exec-sugid": event.FileExec,
	"network-outbound":     event.NetConnect,
	"network*":             event.NetConnect,
	"network-bind":         event.NetBind,
	"network-inbound":      event.NetBind,
	"system-socket":        event.NetSocket,
}

var families = []struct {
	prefix    string
	operation event.Operation
}{
	{"file-read-", event.FileRead},
	{"file-write-", event.FileMeta}, // mode, owner, flags, times, xattr, acl, setugid
	{"process-exec", event.FileExec},
	{"forbidden-link-priv<", event.FileLink},
}

func operationOf(op string) event.Operation {
	if o, ok := operations[op]; ok {
		return o
	}
	for _, f := range families {
		if strings.HasPrefix(op, f.prefix) {
			return f.operation
		}
	}
	return event.SysRefused
}

// target gives the event's operation and object.
func (v Violation) target() (event.Operation, event.Object) {
	op, t := operationOf(v.Op), v.Target
	switch op {
	case event.NetConnect, event.NetBind:
		if port, ok := endpointPort(t); ok {
			return op, event.Object{Port: port, Socket: t}
		}
		if strings.HasPrefix(t, "/") {
			if op == event.NetConnect {
				op = event.UnixConnect
			}
			return op, event.Object{Path: event.Text(t)}
		}
		return op, event.Object{Socket: t}
	case event.NetSocket:
		return op, event.Object{Socket: t}
	case event.SysRefused:
		o := event.Object{Syscall: v.Op, Ref: event.Text(t)}
		if v.Op == "file-ioctl" {
			o = event.Object{Syscall: v.Op, Path: event.Text(ioctlPath(t))}
		}
		return op, o
	}
	return op, event.Object{Path: event.Text(t)}
}

// endpointPort reads remote:*:443 and local:*:8080: the log has no address.
// A port of 0 is any.
func endpointPort(s string) (uint16, bool) {
	rest, ok := strings.CutPrefix(s, "remote:")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "local:"); !ok {
			return 0, false
		}
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[i+1:], 10, 16)
	return uint16(n), err == nil
}

// ioctlPath reads path:PATH [ioctl-command:…].
func ioctlPath(s string) string {
	s, ok := strings.CutPrefix(s, "path:")
	if i := strings.LastIndex(s, " ioctl-command:"); ok && i >= 0 {
		s = s[:i]
	}
	return s
}

// errnoNames are those that Seatbelt answers with (sys/errno.h).
var errnoNames = map[int]string{1: "EPERM", 2: "ENOENT", 5: "EIO", 13: "EACCES"}

func errnoName(n int) string {
	if s, ok := errnoNames[n]; ok {
		return s
	}
	return "errno " + strconv.Itoa(n)
}

// noisy are targets that programs try without being asked to and do without.
var noisy = map[string]bool{
	"/dev/dtracehelper": true, "/dev/tty": true, "/private/var/run/mDNSResponder": true,
	"com.apple.diagnosticd": true, "com.apple.analyticsd": true,
}

// Noise reports whether a violation says nothing of what a program does: it is
// counted and recorded, but not shown at the end of a run.
func (v Violation) Noise() bool {
	t := v.Target
	if v.Op == "file-ioctl" {
		t = ioctlPath(t)
	}
	return noisy[strings.TrimSuffix(t, " (xpc)")]
}
