// Package event owns the one schema in which sallyport speaks of an attempt to
// cross a boundary: who tried (process, ancestry, sandbox), what (operation,
// object) and why it was decided so (reason, rule). Every layer fills it and
// every consumer (audit log, metrics, summary) reads it. It imports nothing of
// sallyport, decides nothing and stores nothing.
package event

import "time"

// SchemaVersion is written into every event; it changes when a reader of the
// previous version would misunderstand a record.
const SchemaVersion = 1

// Event is one decision, or Count equal ones. The zero value is a denial.
//
// Seq, Prev, BootID, Host, Mono and LostSinceLast are filled by the audit
// writer; everything else by the layer that saw the attempt.
type Event struct {
	Schema int    `json:"schema"`
	Seq    uint64 `json:"seq"`
	// Prev is the lower-case hex SHA-256 of the previous line of the same file,
	// without its newline; 64 zeros on the first line.
	Prev string    `json:"prev"`
	Time time.Time `json:"time"`
	// Mono is CLOCK_BOOTTIME in nanoseconds (clock_gettime(2)): it orders events
	// of one boot when the wall clock steps.
	Mono    int64   `json:"mono"`
	BootID  string  `json:"boot_id,omitempty"`
	Host    Text    `json:"host,omitempty"`
	Sandbox Sandbox `json:"sandbox"`

	Verdict   Verdict   `json:"verdict"`
	Layer     Layer     `json:"layer"`
	Operation Operation `json:"operation"`
	Object    Object    `json:"object"`
	// Errno is the symbolic error the process saw ("EACCES"), if it saw one.
	Errno  string `json:"errno,omitempty"`
	Reason Reason `json:"reason"`
	// Rule is what decided: "path:line" of a policy file, or "builtin:NAME".
	Rule string `json:"rule"`
	// Decision is what an authorizer outside calls the decision that it made.
	Decision Text `json:"decision,omitempty"`
	// Detail is one short sentence for people; programs use Reason.
	Detail Text `json:"detail,omitempty"`

	Process   *Process  `json:"process,omitempty"`
	Ancestors []Process `json:"ancestors,omitempty"`

	// Count is the number of attempts this event stands for, at least 1; First
	// and Last are the times of the first and the last of them.
	Count uint64    `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Reported is set in a machine's log where the user's own process made the
	// record, not the kernel: its number among those of the sandbox, from 1.
	Reported uint64 `json:"reported,omitempty"`

	// LostSinceLast counts attempts that are known to have happened since the
	// previous event but of which no record could be made.
	LostSinceLast uint64 `json:"lost_since_last"`
}

// Sandbox names the sandbox an event belongs to.
type Sandbox struct {
	ID           string `json:"id"`
	Name         Text   `json:"name,omitempty"`
	PolicySHA256 string `json:"policy_sha256,omitempty"`
	Tier         Tier   `json:"tier"`
}

// Object is what the attempt aimed at; only the fields that apply are set.
type Object struct {
	Path    Text   `json:"path,omitempty"`
	Host    Text   `json:"host,omitempty"`
	Addr    string `json:"addr,omitempty"` // textual IP address, no port, no zone
	Port    uint16 `json:"port,omitempty"`
	Proto   string `json:"proto,omitempty"` // "tcp", "udp", "icmp", "icmpv6", or "ip:N"
	Socket  string `json:"socket,omitempty"`
	Syscall string `json:"syscall,omitempty"`
	Ref     Text   `json:"ref,omitempty"`
	// To is the second path of an attempt that has two: a new name.
	To Text `json:"to,omitempty"`
	// DevIno is "dev:inode", decimal, of what Path leads to on the host, if it
	// could be found.
	DevIno string `json:"dev_ino,omitempty"`
	// PathSource says where Path was read: "user", the memory of the process,
	// which another of its threads can have changed; or "kernel".
	PathSource string `json:"path_source,omitempty"`
	Truncated  bool   `json:"truncated,omitempty"` // the beginning of Path is missing
}

// Process is who tried. Pid is as the host sees it.
type Process struct {
	PID int `json:"pid"`
	// ExecID is "pid:start", start in clock ticks since boot: it names one
	// process for all time, where a pid is used again.
	ExecID    string `json:"exec_id,omitempty"`
	Exe       Text   `json:"exe,omitempty"`
	ExeDevIno string `json:"exe_dev_ino,omitempty"` // "dev:inode", decimal
	Comm      Text   `json:"comm,omitempty"`
	Argv      []Text `json:"argv,omitempty"`
	Cwd       Text   `json:"cwd,omitempty"`
	UID       uint32 `json:"uid"`
	// LoginUID is the user of the session, whatever the process became since
	// (CONFIG_AUDIT).
	LoginUID      *uint32 `json:"loginuid,omitempty"`
	ArgvTruncated bool    `json:"argv_truncated,omitempty"`
}
