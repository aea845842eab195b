// Package bypass lists the known ways around a sandbox: what is tried, what must
// come of it, and what the record must say of it. The table is data: internal/e2e
// makes the attempts, and docs/bypasses.md is written from what came of them.
package bypass

import (
	"slices"

	"github.com/sallyport/sallyport/internal/event"
)

// Area is the part of the table that a vector stands in.
type Area string

// The areas, in the order documents show them.
const (
	Rings     Area = "Rings that pass no filter"
	Connects  Area = "Connections and datagrams by odd calls"
	Families  Area = "Protocols, families and raw sockets"
	Handed    Area = "Descriptors from elsewhere"
	Spaces    Area = "Namespaces, cgroups and other tables of calls"
	Processes Area = "Other processes"
	Sockets   Area = "Unix sockets and who listens there"
	Files     Area = "Files"
	Literals  Area = "Addresses and protocols"
	Names     Area = "Names, spelled and resolved"
	Requests  Area = "What is said on a connection"
	Asking    Area = "Questions and floods"
)

// Areas lists them.
func Areas() []Area {
	return []Area{Rings, Connects, Families, Handed, Spaces, Processes, Sockets, Files, Literals, Names, Requests, Asking}
}

// Vector is one way. Words of Try, Arrives and of records may hold $VARIABLES,
// which stand for addresses and paths of the tests' world: see Expand.
type Vector struct {
	ID   string // the test is TestBypass/ID
	Text string // what is tried, for people
	Area Area

	Policy Policy
	Try    []string // the attempt and its words
	// Want is what must come of it: names of errors with | between them. Empty:
	// any failure.
	Want string
	// Outside is what comes of the same without a sandbox, which shows that it is
	// an attempt: "ok", most often. Empty: nothing is tried outside.
	Outside string
	// Module is a part of the kernel that the attempt outside would load: it is
	// made only in a test VM, or where /proc/net/protocols has this name.
	Module string
	// Arrives is what the far side may see: an allowed name is looked up and
	// connected to before what is said there is known.
	Arrives []string

	// Records say what is recorded, each from a tier on, lowest first: the last
	// that the tier at hand reaches counts. Before the first, Missing is the
	// beginning of what the run says it does not record.
	Records []Record
	Missing string
	// Nothing says why there is nothing to record, or nothing below tier lsm: what
	// is tried is not there, or leads nowhere.
	Nothing string
	// Held names the tests that hold a vector which is more than one attempt.
	Held []string
}

// Record is what an event says.
type Record struct {
	From   event.Tier
	Op     event.Operation
	Reason event.Reason
	Rule   string // without "builtin:"
	Host   string
	Addr   string
	Port   uint16
	Path   string
	Socket string // or system call
	Count  uint64 // zero: one
	// Late: it is a packet that is recorded, in every tier, and its process is
	// looked for afterwards. It may have gone; another is never named. In tier
	// rootless that is so of every packet.
	Late bool
	// Raced: the name is read after the call, and may be another by then. It is
	// recorded, each time, under the one or the other.
	Raced bool
	// Barred begins what the attempt says where the kernel itself refuses it to
	// every ordinary user: then it cannot be tried.
	Barred string
	// Program is what the attempt starts, and what is recorded. Where it comes to
	// nothing outside, either, there is nothing that it could be refused.
	Program string
	// Resent: the kernel sends the packet again until the attempt is given up, and
	// each is recorded.
	Resent bool
}

// Policy is one of those that attempts are made under.
type Policy string

// The policies.
const (
	Default   Policy = ""      // of the policy's own words: see Text
	Ports     Policy = "ports" // one port of one name
	Subs      Policy = "subs"  // everything below a name
	Rebinding Policy = "rebinding"
)

// Text is the policy, as a file.
func (p Policy) Text() string {
	switch p {
	case Ports:
		return "network: {allowedDomains: ['allowed.test:443']}\n"
	case Subs:
		return "network: {allowedDomains: ['*.allowed.test']}\n"
	case Rebinding:
		return "network: {allowedDomains: [rebind.test, rebind6.test, metadata.test, evil.localhost, here.test, mixed.test, mixed6.test]}\n"
	}
	return "network: {allowedDomains: [allowed.test, also.allowed.test]}\n" +
		"filesystem: {allowWrite: [.], denyWrite: [absent, deep/er/absent]}\n"
}

// Policies lists them.
func Policies() []Policy { return []Policy{Default, Ports, Subs, Rebinding} }

// Vectors is the table.
func Vectors() []Vector {
	return slices.Concat(rings(), connects(), families(), handed(), spaces(), processes(), sockets(), files(),
		literals(), names(), requests(), asking())
}

// At is what must be recorded at a tier; false: nothing is claimed.
func (v Vector) At(tier event.Tier) (r Record, ok bool) {
	for _, each := range v.Records {
		if tier >= each.From {
			r, ok = each, true
		}
	}
	return r, ok
}

// Prefix begins the line in which a test says what came of a vector: the tier and
// the result follow.
const Prefix = "bypass: "

// Results, or their beginnings.
const (
	Recorded    = "recorded"
	NotRecorded = "not recorded"
	NotThere    = "nothing there"
	HeldBy      = "held by "
	CannotTry   = "cannot be tried here: "
)
