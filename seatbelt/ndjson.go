package seatbelt

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

const logTime = "2006-01-02 15:04:05.000000-0700"

// jsonLine reads one line of `log --style ndjson`: one JSON object, of which
// only a few members matter. It is strict, as a line that is not whole must not
// be taken for a record, and it keeps nothing: encoding/json is five times
// slower here.
type jsonLine struct {
	b   []byte
	pos int
	buf []byte // of unescaped strings

	seen               [len(jsonKeys)]bool
	eventType, message string
	process            string
	timestamp          string
	pid                int64
	mach, lost         uint64
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
)

var jsonKeys = [...]string{"eventType", "eventMessage", "processImagePath", "processID", "timestamp",
	"machTimestamp", "lossCount", "finished"}

var (
	errJSON  = errors.New("not a JSON object")
	errTwice = errors.New("a member is there twice")
)

// maxDepth bounds the nesting of members that do not matter.
const maxDepth = 32

// parseNDJSON reads a line. buf is memory to use, and is given back.
func parseNDJSON(line, buf []byte) (Record, Outcome, []byte) {
	j := jsonLine{b: line, buf: buf}
	if err := j.object(); err != nil {
		return Record{}, Broken, j.buf
	}
	r, o := j.record()
	return r, o, j.buf
}

// record judges what was read.
func (j *jsonLine) record() (Record, Outcome) {
	switch {
	case j.eventType == "lossEvent":
		return Record{Lost: max(j.lost, 1)}, Kept
	case j.seen[keyFinished] && !j.seen[keyMessage]:
		return Record{}, Banner
	case !j.seen[keyMessage] || !j.seen[keyProcess] || !j.seen[keyPID]:
		if j.seen[keyType] && j.eventType != "logEvent" { // activities, signposts
			return Record{}, OtherProcess
		}
		return Record{}, Broken
	}
	r := Record{Text: j.message, Mach: j.mach}
	switch {
	case j.pid == 0 && j.process == kernelPath:
		r.Reporter = Kernel
	case j.pid > 0 && j.process == sandboxdPath:
		r.Reporter = Sandboxd
	default:
		return Record{}, OtherProcess
	}
	if j.timestamp != "" {
		t, err := time.Parse(logTime, j.timestamp)
		if err != nil {
			return Record{}, Broken
		}
		r.Time = t
	}
	return r, Kept
}

func (j *jsonLine) object() error {
	j.space()
	if !j.take('{') {
		return errJSON
	}
	for j.space(); !j.take('}'); {
		key, err := j.string()
		if err != nil {
			return err
		}
		j.space()
		if !j.take(':') {
			return errJSON
		}
		j.space()
		if err := j.member(key); err != nil {
			return err
		}
		j.space()
		if j.take(',') {
			j.space()
			if j.peek() != '"' {
				return errJSON
			}
		} else if j.peek() != '}' {
			return errJSON
		}
	}
	j.space()
	if j.pos != len(j.b) {
		return errJSON
	}
	return nil
}

// member takes a value over if its key matters.
func (j *jsonLine) member(key []byte) error {
	k := keyIndex(key)
	if k < 0 {
		return j.skip(0)
	}
	if j.seen[k] {
		return errTwice
	}
	j.seen[k] = true
	switch k {
	case keyType:
		return j.text(&j.eventType)
	case keyMessage:
		return j.text(&j.message)
	case keyProcess:
		return j.text(&j.process)
	case keyTime:
		return j.text(&j.timestamp)
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

func keyIndex(key []byte) int {
	for i, name := range jsonKeys {
		if string(key) == name {
			return i
		}
	}
	return -1
}

// lossCount is a number, or an object about it: how many is then not told.
func (j *jsonLine) lossCount() error {
	if c := j.peek(); c < '0' || c > '9' {
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
		return j.skip(0)
	}
	raw, err := j.string()
	if err != nil {
		return err
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		if j.buf, err = unescape(j.buf[:0], raw); err != nil {
			return err
		}
		raw = j.buf
	}
	switch string(raw) { // the usual values cost no memory
	case kernelPath:
		*s = kernelPath
	case "logEvent":
		*s = "logEvent"
	default:
		*s = string(raw)
	}
	return nil
}

func (j *jsonLine) peek() byte {
	if j.pos < len(j.b) {
		return j.b[j.pos]
	}
	return 0
}

func (j *jsonLine) take(c byte) bool {
	if j.peek() != c || j.pos == len(j.b) {
		return false
	}
	j.pos++
	return true
}

func (j *jsonLine) space() {
	for j.pos < len(j.b) && (j.b[j.pos] == ' ' || j.b[j.pos] == '\t' || j.b[j.pos] == '\r' || j.b[j.pos] == '\n') {
		j.pos++
	}
}

// string gives what is between two quotes, escapes and all.
func (j *jsonLine) string() ([]byte, error) {
	if !j.take('"') {
		return nil, errJSON
	}
	start := j.pos
	for i := start; i < len(j.b); i++ {
		switch c := j.b[i]; {
		case c == '"':
			j.pos = i + 1
			return j.b[start:i], nil
		case c == '\\':
			n := escapeLen(j.b[i:])
			if n == 0 {
				return nil, errJSON
			}
			i += n - 1
		case c < 0x20:
			return nil, errJSON
		}
	}
	return nil, errJSON
}

// escapeLen gives the length of the escape at the start of s, 0 if it is none.
func escapeLen(s []byte) int {
	switch {
	case len(s) > 1 && bytes.IndexByte([]byte(`"\/bfnrt`), s[1]) >= 0:
		return 2
	case len(s) > 5 && s[1] == 'u':
		if _, err := hex4(s[2:]); err == nil {
			return 6
		}
	}
	return 0
}

// number reads -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?.
func (j *jsonLine) number() ([]byte, error) {
	start := j.pos
	j.take('-')
	if !j.take('0') && !j.digits() {
		return nil, errJSON
	}
	if j.take('.') && !j.digits() {
		return nil, errJSON
	}
	if j.take('e') || j.take('E') {
		if !j.take('+') {
			j.take('-')
		}
		if !j.digits() {
			return nil, errJSON
		}
	}
	return j.b[start:j.pos], nil
}

func (j *jsonLine) digits() bool {
	start := j.pos
	for j.pos < len(j.b) && '0' <= j.b[j.pos] && j.b[j.pos] <= '9' {
		j.pos++
	}
	return j.pos > start
}

// skip passes over any value.
func (j *jsonLine) skip(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: nested too deep", errJSON)
	}
	switch c := j.peek(); c {
	case '"':
		_, err := j.string()
		return err
	case '{', '[':
		return j.skipNested(c+2, depth) // '}' and ']' are two after their openers
	case 't':
		return j.word("true")
	case 'f':
		return j.word("false")
	case 'n':
		return j.word("null")
	}
	_, err := j.number()
	return err
}

func (j *jsonLine) skipNested(closer byte, depth int) error {
	j.pos++
	for j.space(); !j.take(closer); j.space() {
		if closer == '}' {
			if _, err := j.string(); err != nil {
				return err
			}
			j.space()
			if !j.take(':') {
				return errJSON
			}
			j.space()
		}
		if err := j.skip(depth + 1); err != nil {
			return err
		}
		j.space()
		comma := j.take(',')
		j.space()
		if comma == (j.peek() == closer) {
			return errJSON
		}
	}
	return nil
}

func (j *jsonLine) word(w string) error {
	if !bytes.HasPrefix(j.b[j.pos:], []byte(w)) {
		return errJSON
	}
	j.pos += len(w)
	return nil
}

// unescape appends the meaning of a JSON string (RFC 8259, section 7) to dst.
func unescape(dst, s []byte) ([]byte, error) {
	for len(s) > 0 {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), nil
		}
		dst = append(dst, s[:i]...)
		s = s[i+1:]
		if len(s) == 0 {
			return dst, errJSON
		}
		c := s[0]
		s = s[1:]
		if c == 'u' {
			r, rest, err := unicodeEscape(s)
			if err != nil {
				return dst, err
			}
			dst, s = utf8.AppendRune(dst, r), rest
			continue
		}
		at := bytes.IndexByte([]byte(`"\/bfnrt`), c)
		if at < 0 {
			return dst, errJSON
		}
		dst = append(dst, "\"\\/\b\f\n\r\t"[at])
	}
	return dst, nil
}

// unicodeEscape reads what follows \u, a second half included.
func unicodeEscape(s []byte) (rune, []byte, error) {
	r, err := hex4(s)
	if err != nil {
		return 0, nil, err
	}
	s = s[4:]
	if !utf16.IsSurrogate(r) {
		return r, s, nil
	}
	if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
		if low, err := hex4(s[2:]); err == nil {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, s[6:], nil
			}
		}
	}
	return utf8.RuneError, s, nil
}

func hex4(s []byte) (rune, error) {
	if len(s) < 4 {
		return 0, errJSON
	}
	var r rune
	for _, c := range s[:4] {
		d := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		if d < 0 || c < '0' {
			return 0, errJSON
		}
		r = r<<4 | rune(d)
	}
	return r, nil
}
