package event

import "fmt"

// Verdict says what became of an attempt. The zero value is a denial.
type Verdict uint8

const (
	Deny       Verdict = iota // refused
	Allow                     // let through by a rule
	AskAllowed                // let through by the user's answer
	AskDenied                 // refused by the user's answer, or for want of one
	Audit                     // recorded only: nothing was decided
)

// Denied reports whether the attempt was refused.
func (v Verdict) Denied() bool { return v == Deny || v == AskDenied }

// Layer says which part of the boundary saw the attempt.
type Layer uint8

const (
	LayerUnknown Layer = iota
	LayerProxy
	LayerDNS
	LayerCgroup
	LayerNFT
	LayerLSM
	LayerTrace
	LayerSeccomp
	LayerSeatbelt
	LayerSupervisor // the process that owns the run: what it finds by looking
)

// Operation is what was attempted.
type Operation uint8

const (
	OpUnknown Operation = iota
	NetConnect
	NetDNS
	NetUDP
	NetICMP
	NetBind
	NetRaw
	NetSocket
	UnixConnect
	FileRead
	FileWrite
	FileCreate
	FileDelete
	FileRename
	FileLink
	FileMeta
	FileExec
	NSCreate
	SysRefused
	GitPush
	NetAccept    // somebody on the host connected to a published port
	PolicyUpdate // the policy was replaced while the sandbox ran, or was not
	MemoryUse    // more memory was wanted than there may be
	ProcCreate   // another process or thread
	TimeUse      // to run on
)

// Reason says why, in one of a bounded set of words, so that it can be a
// metric's label. The zero value is "nothing allowed it".
type Reason uint8

const (
	NotAllowed       Reason = iota // no rule allows it
	RuleDenied                     // a rule of the policy denies it
	RuleAllowed                    // a rule of the policy allows it
	DefaultAllowed                 // the built-in default allows it
	AddressLiteral                 // a plain address that no rule names
	AddressDenied                  // a special-purpose or denied address
	PortDenied                     // the port needs an entry of its own
	ProtocolDenied                 // neither TCP nor DNS
	NameInvalid                    // not a name that could be looked up safely
	NameMismatch                   // the inner name differs from the outer one
	NameMissing                    // TLS without a server name
	RequestInvalid                 // bytes that are not the protocol they should be
	DNSType                        // a DNS query type that is not answered
	PathHidden                     // a read-denied path
	PathReadOnly                   // outside every write root
	PathProtected                  // a mandatory write denial
	SocketRefused                  // a socket family, type or protocol
	SyscallRefused                 // a system call that the filter refuses
	LimitExceeded                  // a cap of the sandbox was reached
	Unanswered                     // the user was asked and did not answer
	System                         // the host's own permissions, not the policy
	Tampered                       // something that holds the boundary was changed
	Unreachable                    // allowed, but the other side could not be reached
	UnknownDest                    // the original destination could not be found
	UserAnswer                     // the user was asked and answered
	AuthorizerAnswer               // an external authorizer answered
)

// Tier says how much of the boundary stood while the event was made.
type Tier uint8

const (
	TierNone Tier = iota
	TierRootless
	TierTrace
	TierLSM
	TierSeatbelt
)

var (
	verdictNames = []string{"deny", "allow", "ask-allowed", "ask-denied", "audit"}
	layerNames   = []string{"unknown", "proxy", "dns", "cgroup", "nft", "lsm", "trace", "seccomp",
		"seatbelt", "supervisor"}
	operationNames = []string{"unknown", "net.connect", "net.dns", "net.udp", "net.icmp", "net.bind",
		"net.raw", "net.socket", "unix.connect", "file.read", "file.write", "file.create",
		"file.delete", "file.rename", "file.link", "file.meta", "file.exec", "ns.create",
		"sys.refused", "git.push", "net.accept", "policy.update",
		"mem.use", "proc.create", "time.use"}
	reasonNames = []string{"not-allowed", "rule-denied", "rule-allowed", "default-allowed",
		"address-literal", "address-denied", "port-denied", "protocol-denied", "name-invalid",
		"name-mismatch", "name-missing", "request-invalid", "dns-type", "path-hidden",
		"path-read-only", "path-protected", "socket-refused", "syscall-refused", "limit-exceeded",
		"unanswered", "system", "tampered", "unreachable", "unknown-destination", "user-answer",
		"authorizer-answer"}
	tierNames = []string{"none", "rootless", "trace", "lsm", "seatbelt"}
)

// Operations, Reasons, Layers, Verdicts and Tiers list every value's name in
// order of value, for flags, schemas and metric labels.
func Operations() []string { return append([]string(nil), operationNames...) }
func Reasons() []string    { return append([]string(nil), reasonNames...) }
func Layers() []string     { return append([]string(nil), layerNames...) }
func Verdicts() []string   { return append([]string(nil), verdictNames...) }
func Tiers() []string      { return append([]string(nil), tierNames...) }

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("invalid(%d)", uint8(v))
}

func marshal[T ~uint8](kind string, names []string, v T) ([]byte, error) {
	if int(v) >= len(names) {
		return nil, fmt.Errorf("encode %s: invalid value %d", kind, uint8(v))
	}
	return []byte(names[v]), nil
}

func unmarshal[T ~uint8](kind string, names []string, v *T, b []byte) error {
	for i, n := range names {
		if n == string(b) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("decode %s: unknown value %q", kind, b)
}

func (v Verdict) String() string               { return name(verdictNames, v) }
func (v Verdict) MarshalText() ([]byte, error) { return marshal("verdict", verdictNames, v) }
func (v *Verdict) UnmarshalText(b []byte) error {
	return unmarshal("verdict", verdictNames, v, b)
}

func (l Layer) String() string                { return name(layerNames, l) }
func (l Layer) MarshalText() ([]byte, error)  { return marshal("layer", layerNames, l) }
func (l *Layer) UnmarshalText(b []byte) error { return unmarshal("layer", layerNames, l, b) }

func (o Operation) String() string               { return name(operationNames, o) }
func (o Operation) MarshalText() ([]byte, error) { return marshal("operation", operationNames, o) }
func (o *Operation) UnmarshalText(b []byte) error {
	return unmarshal("operation", operationNames, o, b)
}

func (r Reason) String() string                { return name(reasonNames, r) }
func (r Reason) MarshalText() ([]byte, error)  { return marshal("reason", reasonNames, r) }
func (r *Reason) UnmarshalText(b []byte) error { return unmarshal("reason", reasonNames, r, b) }

func (t Tier) String() string                { return name(tierNames, t) }
func (t Tier) MarshalText() ([]byte, error)  { return marshal("tier", tierNames, t) }
func (t *Tier) UnmarshalText(b []byte) error { return unmarshal("tier", tierNames, t, b) }
