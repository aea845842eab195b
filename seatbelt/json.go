package seatbelt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// The grammar of JSON (RFC 8259) as a jsonLine reads it.

func (j *jsonLine) peek() byte {
	if j.pos < len(j.b) {
		return j.b[j.pos]
	}
	return 0
}

func (j *jsonLine) take(c byte) bool {
	if j.pos < len(j.b) && j.b[j.pos] == c {
		j.pos++
		return true
	}
	return false
}

func (j *jsonLine) space() {
	if j.peek() > ' ' { // as nearly always
		return
	}
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
	j.escaped = false
	for i := start; ; {
		i += plainLen(j.b[i:])
		if i == len(j.b) {
			return nil, errJSON
		}
		if j.b[i] == '"' {
			j.pos = i + 1
			return j.b[start:i], nil
		}
		n := 0
		if j.b[i] == '\\' {
			n = escapeLen(j.b[i:])
			j.escaped = true
		}
		if n == 0 {
			return nil, errJSON
		}
		i += n
	}
}

// plainLen gives how many bytes at the start of s mean themselves in a string:
// all but the quote, the backslash and control characters. It looks at eight
// bytes at once: of x, (x-1)&^x has the top bit set where a byte is zero, and
// nowhere below the first that is.
func plainLen(s []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote, slash := w^'"'*ones, w^'\\'*ones
		found := ((w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & tops
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(s); i++ {
		if s[i] < ' ' || s[i] == '"' || s[i] == '\\' {
			break
		}
	}
	return i
}

// escapeLen gives the length of the escape at the start of s, 0 if it is none.
func escapeLen(s []byte) int {
	switch {
	case len(s) > 1 && escapes[s[1]] != 0:
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
	if !j.take('0') && !j.digits() && !(j.take('-') && (j.take('0') || j.digits())) {
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
			if err := j.colon(); err != nil {
				return err
			}
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

// escapes maps what follows a backslash to what it means.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape appends the meaning of a JSON string (RFC 8259, section 7) to dst.
func unescape(dst, s []byte) ([]byte, error) {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			n := max(1, plainLen(s[i:]))
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		if i+1 == len(s) {
			return dst, errJSON
		}
		if c := escapes[s[i+1]]; c != 0 {
			dst = append(dst, c)
			i += 2
			continue
		}
		if s[i+1] != 'u' {
			return dst, errJSON
		}
		r, rest, err := unicodeEscape(s[i+2:])
		if err != nil {
			return dst, err
		}
		dst, i = utf8.AppendRune(dst, r), len(s)-len(rest)
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
