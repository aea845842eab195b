package seatbelt

import (
	"errors"
	"strconv"
)

// jsonLine reads one line of `log --style ndjson`: one JSON object, of which
// only a few members matter. It is strict, as a line that is not whole must not
// be taken for a record, and it keeps nothing: encoding/json is five times
// slower here.
type jsonLine struct {
	b   []byte
	pos int
	mem *lineMemory

	seen       [keys]bool
	escaped    bool   // the last string has escapes
	eventType  []byte // raw, as processImagePath and timestamp
	process    []byte
	timestamp  []byte
	message    string
	pid        int64
	mach, lost uint64
}

// The members that matter.
const (
	keyType = iota
	keyMessage
	keyProcess
	keyPID
	keyTime
	keyMach
	keyLoss
	keyFinished
	keys
)

var (
	errJSON  = errors.New("not a JSON object")
	errTwice = errors.New("a member is there twice")
)

// maxDepth bounds the nesting of members that do not matter.
const maxDepth = 32

// parseNDJSON reads a line.
func parseNDJSON(line []byte, mem *lineMemory) (Record, Outcome) {
	if j, ok := mem.reread(line); ok {
		return j.record()
	}
	j := jsonLine{b: line, mem: mem}
	mem.members = mem.members[:0]
	if err := j.object(); err != nil {
		return Record{}, Broken
	}
	mem.learn(&j)
	return j.record()
}

// record judges what was read.
func (j *jsonLine) record() (Record, Outcome) {
	switch {
	case string(j.eventType) == "lossEvent":
		return Record{Lost: max(j.lost, 1)}, Kept
	case j.seen[keyFinished] && !j.seen[keyMessage]:
		return Record{}, Banner
	case !j.seen[keyMessage] || !j.seen[keyProcess] || !j.seen[keyPID]:
		if j.seen[keyType] && string(j.eventType) != "logEvent" { // activities, signposts
			return Record{}, OtherProcess
		}
		return Record{}, Broken
	}
	r := Record{Text: j.message, Mach: j.mach}
	switch {
	case j.pid == 0 && isPath(j.process, kernelPath):
		r.Reporter = Kernel
	case j.pid > 0 && isPath(j.process, sandboxdPath):
		r.Reporter = Sandboxd
	default:
		return Record{}, OtherProcess
	}
	if j.seen[keyTime] {
		var ok bool
		if r.Time, ok = parseLongTime(j.timestamp); !ok {
			return Record{}, Broken
		}
	}
	return r, Kept
}

// isPath compares a raw string, in which a slash may have a backslash before it.
func isPath(raw []byte, path string) bool {
	i := 0
	for n := 0; n < len(raw); n++ {
		if raw[n] == '\\' {
			if n++; n == len(raw) || raw[n] != '/' {
				return false
			}
		}
		if i == len(path) || raw[n] != path[i] {
			return false
		}
		i++
	}
	return i == len(path)
}

func (j *jsonLine) object() error {
	j.space()
	if !j.take('{') {
		return errJSON
	}
	j.space()
	if j.take('}') {
		return j.end()
	}
	for {
		key, err := j.string()
		if err != nil {
			return err
		}
		if err := j.colon(); err != nil {
			return err
		}
		if err := j.member(keyIndex(key)); err != nil {
			return err
		}
		j.space()
		if !j.take(',') {
			break
		}
		j.space()
	}
	if !j.take('}') {
		return errJSON
	}
	return j.end()
}

// end reports what follows the object.
func (j *jsonLine) end() error {
	j.space()
	if j.pos != len(j.b) {
		return errJSON
	}
	return nil
}

func (j *jsonLine) colon() error {
	j.space()
	if !j.take(':') {
		return errJSON
	}
	j.space()
	return nil
}

// member reads a value, and says where it is.
func (j *jsonLine) member(k int) error {
	if k >= 0 {
		if j.seen[k] {
			return errTwice
		}
		j.seen[k] = true
	}
	from := j.pos
	err := j.value(k)
	if len(j.mem.members) <= maxMembers { // one more says that there are too many
		j.mem.members = append(j.mem.members, member{key: k, from: from, to: j.pos})
	}
	return err
}

// value takes a value over if its key matters.
func (j *jsonLine) value(k int) error {
	switch k {
	case keyType, keyProcess, keyTime:
		s, err := j.string()
		*j.raw(k) = s
		return err
	case keyMessage:
		return j.text(&j.message)
	case keyPID:
		n, err := j.number()
		if err != nil {
			return err
		}
		j.pid, err = strconv.ParseInt(string(n), 10, 32)
		return err
	case keyMach:
		return j.counter(&j.mach)
	case keyLoss:
		return j.lossCount()
	}
	return j.skip(0)
}

// raw gives the place of a string that is kept as it was written; nil: it is not.
func (j *jsonLine) raw(k int) *[]byte {
	switch k {
	case keyType:
		return &j.eventType
	case keyProcess:
		return &j.process
	case keyTime:
		return &j.timestamp
	}
	return nil
}

func keyIndex(key []byte) int {
	switch string(key) {
	case "eventType":
		return keyType
	case "eventMessage":
		return keyMessage
	case "processImagePath":
		return keyProcess
	case "processID":
		return keyPID
	case "timestamp":
		return keyTime
	case "machTimestamp":
		return keyMach
	case "lossCount":
		return keyLoss
	case "finished":
		return keyFinished
	}
	return -1
}

// lossCount is a number, or an object about it: how many is then not told.
func (j *jsonLine) lossCount() error {
	if c := j.peek(); c < '0' || c > '9' {
		j.lost = 0
		return j.skip(0)
	}
	return j.counter(&j.lost)
}

func (j *jsonLine) counter(v *uint64) error {
	n, err := j.number()
	if err != nil {
		return err
	}
	*v, err = strconv.ParseUint(string(n), 10, 64)
	return err
}

func (j *jsonLine) text(s *string) error {
	if j.peek() == 'n' { // null, as in records without a message
		*s = ""
		return j.skip(0)
	}
	raw, err := j.string()
	if err == nil && j.escaped {
		j.mem.buf, err = unescape(j.mem.buf[:0], raw)
		raw = j.mem.buf
	}
	*s = string(raw)
	return err
}
