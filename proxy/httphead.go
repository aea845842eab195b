package proxy

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"
)

// Heads of HTTP/1 messages, read strictly: whatever two parsers have been known
// to read differently is an error (RFC 9112, sections 2.2, 3.2, 5, 6.3 and 11.2).

// field is one header field as it came.
type field struct{ name, value string }

// request is a parsed request head.
type request struct {
	method, target string
	minor          int // HTTP/1.minor
	fields         []field
	body           body
}

// response is a parsed response head.
type response struct {
	minor  int
	status int
	reason string
	fields []field
	body   body
}

// body is how a message's body is delimited.
type body struct {
	chunked bool
	length  int64 // -1 where there is no Content-Length
}

// headError is what is wrong with a head, where it could be read at all.
type headError string

func (e headError) Error() string { return string(e) }

const (
	errHeadTooLong headError = "the head is too long"
	errLineEnd     headError = "a line that does not end in CRLF"
	errRequestLine headError = "malformed request line"
	errTarget      headError = "a control character or a byte beyond ASCII in the request target"
	errVersion     headError = "neither HTTP/1.0 nor HTTP/1.1"
	errStatusLine  headError = "malformed status line"
	errField       headError = "malformed header field"
	errControl     headError = "a control character in a header field"
	errManyFields  headError = "too many header fields"
	errAmbiguous   headError = "Content-Length and Transfer-Encoding leave the length open"
	errTwoHosts    headError = "more than one Host"
	errNoHost      headError = "no Host"
)

// readHead reads through the empty line that ends a head and gives the lines
// before it.
func readHead(br *bufio.Reader, max int, mem *memory) (string, error) {
	held := hold{m: mem}
	defer held.release()
	var head []byte
	start := 0 // of the current line
	for {
		part, err := br.ReadSlice('\n')
		if len(head)+len(part) > max {
			return "", errHeadTooLong
		}
		if !held.grow(len(head) + len(part)) {
			return "", errMemory
		}
		head = append(head, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return "", err
		}
		line := head[start:]
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			return "", errLineEnd
		}
		if len(line) == 2 {
			return string(head[:start]), nil
		}
		start = len(head)
	}
}

// skipEmptyLine skips one empty line before a request (RFC 9112, section 2.2).
func skipEmptyLine(br *bufio.Reader) {
	if b, _ := br.Peek(2); string(b) == "\r\n" {
		br.Discard(2)
	}
}

// parseRequest parses a head as readHead gives it.
func parseRequest(head string) (*request, error) {
	line, rest, _ := strings.Cut(head, "\r\n")
	method, line, ok1 := strings.Cut(line, " ")
	target, proto, ok2 := strings.Cut(line, " ")
	r := &request{method: strings.Clone(method), target: target} // the method outlives the head
	switch {
	case !ok1 || !ok2 || !isToken(method) || target == "":
		return nil, errRequestLine
	case proto == "HTTP/1.1":
		r.minor = 1
	case proto != "HTTP/1.0":
		return nil, errVersion
	}
	for i := 0; i < len(target); i++ {
		if target[i] <= ' ' || target[i] >= 0x7f {
			return nil, errTarget
		}
	}
	var err error
	if r.fields, err = parseFields(rest); err != nil {
		return nil, err
	}
	if r.body, err = framing(r.fields, r.minor); err != nil {
		return nil, err
	}
	return r, nil
}

// parseResponse parses a head as readHead gives it.
func parseResponse(head string) (*response, error) {
	line, rest, _ := strings.Cut(head, "\r\n")
	proto, line, ok := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(line, " ")
	r := &response{reason: reason}
	switch proto {
	case "HTTP/1.1":
		r.minor = 1
	case "HTTP/1.0":
	default:
		ok = false
	}
	status, err := strconv.ParseUint(code, 10, 16)
	if !ok || err != nil || len(code) != 3 || status < 100 || !isText(reason) {
		return nil, errStatusLine
	}
	r.status = int(status)
	if r.fields, err = parseFields(rest); err != nil {
		return nil, err
	}
	if r.body, err = framing(r.fields, r.minor); err != nil {
		return nil, err
	}
	return r, nil
}

// maxFields keeps the work on one head linear in its size.
const maxFields = 256

// parseFields parses lines that all end in CRLF.
func parseFields(s string) ([]field, error) {
	n := strings.Count(s, "\n")
	if n > maxFields {
		return nil, errManyFields
	}
	fields := make([]field, 0, n)
	for s != "" {
		line, rest, ok := strings.Cut(s, "\r\n")
		if !ok {
			return nil, errLineEnd
		}
		s = rest
		name, value, ok := strings.Cut(line, ":")
		// A name that is no token has swallowed a space before the colon, a folded
		// line or a stray line end.
		if !ok || !isToken(name) {
			return nil, errField
		}
		value = strings.Trim(value, " \t")
		if !isText(value) {
			return nil, errControl
		}
		fields = append(fields, field{name, value})
	}
	return fields, nil
}

// framing finds how long a body is, and refuses whatever leaves a doubt.
func framing(fields []field, minor int) (body, error) {
	b := body{length: -1}
	for _, f := range fields {
		switch {
		case strings.EqualFold(f.name, "Transfer-Encoding"):
			if b.chunked || minor == 0 || !strings.EqualFold(f.value, "chunked") {
				return b, errAmbiguous
			}
			b.chunked = true
		case strings.EqualFold(f.name, "Content-Length"):
			n, err := strconv.ParseUint(f.value, 10, 63)
			if b.length >= 0 || err != nil || f.value[0] == '+' {
				return b, errAmbiguous
			}
			b.length = int64(n)
		}
	}
	if b.chunked && b.length >= 0 {
		return b, errAmbiguous
	}
	return b, nil
}

// host gives the one Host field. Two are an error; none is the empty string.
func (r *request) host() (string, error) {
	host, seen := "", false
	for _, f := range r.fields {
		if !strings.EqualFold(f.name, "Host") {
			continue
		}
		if seen {
			return "", errTwoHosts
		}
		host, seen = f.value, true
	}
	if !seen && r.minor > 0 {
		return "", errNoHost
	}
	return host, nil
}

// hasToken reports whether a list field of that name holds the token.
func hasToken(fields []field, name, token string) bool {
	for _, f := range fields {
		if !strings.EqualFold(f.name, name) {
			continue
		}
		for _, t := range strings.Split(f.value, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// get gives the first field of that name.
func get(fields []field, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// keepsAlive reports whether a peer means to use the connection again.
func keepsAlive(fields []field, minor int) bool {
	for _, name := range []string{"Connection", "Proxy-Connection"} {
		if hasToken(fields, name, "close") {
			return false
		}
	}
	return minor > 0 || hasToken(fields, "Connection", "keep-alive") ||
		hasToken(fields, "Proxy-Connection", "keep-alive")
}

// hopByHop are the fields that end at a proxy (RFC 9110, section 7.6.1), and
// those it writes itself.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"TE", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Host", "HTTP2-Settings",
}

// appendField appends one header line.
func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// appendStatus appends a status line.
func appendStatus(b []byte, status int, reason string) []byte {
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(b, ' '), reason...), "\r\n"...)
}

// endToEnd appends the fields that go on, leaving out what Connection names.
func endToEnd(b []byte, fields []field) []byte {
	var named []string
	for _, f := range fields {
		if strings.EqualFold(f.name, "Connection") {
			named = append(named, strings.Split(f.value, ",")...)
		}
	}
next:
	for _, f := range fields {
		for _, h := range hopByHop {
			if strings.EqualFold(f.name, h) {
				continue next
			}
		}
		for _, n := range named {
			if strings.EqualFold(f.name, strings.Trim(n, " \t")) {
				continue next
			}
		}
		b = appendField(b, f.name, f.value)
	}
	return b
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isText reports whether s holds no control character but the tab.
func isText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
