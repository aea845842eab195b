package seatbelt

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzNDJSON holds the line parser against encoding/json.
func FuzzNDJSON(f *testing.F) {
	f.Add([]byte(logEntry(0, "/kernel", report)))
	f.Add([]byte(`{"eventMessage":"\ud83d\u0041","processID":0,"processImagePath":"\/kernel","a":[1,{"b":-1.5e+3}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, o := parseNDJSON(line, &lineMemory{})
		if o == Broken {
			return
		}
		if !json.Valid(line) {
			t.Fatalf("%q is not JSON, and %v", line, o)
		}
		if o != Kept || r.Lost > 0 {
			return
		}
		var m struct {
			EventMessage     string `json:"eventMessage"`
			ProcessID        int    `json:"processID"`
			ProcessImagePath string `json:"processImagePath"`
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if strings.ToValidUTF8(r.Text, "\ufffd") != strings.ToValidUTF8(m.EventMessage, "\ufffd") && !ambiguousCase(line) {
			t.Fatalf("%q, encoding/json reads %q", r.Text, m.EventMessage)
		}
		if !ambiguousCase(line) && (m.ProcessID == 0 && m.ProcessImagePath == kernelPath) != (r.Reporter == Kernel) {
			t.Fatalf("reporter %v of %+v", r.Reporter, m)
		}
	})
}

func TestALineIsReadAlikeWhateverCameBefore(t *testing.T) {
	whole := logEntry(0, "/kernel", report)
	for name, line := range map[string]string{
		"itself":                    whole,
		"a longer number":           strings.Replace(whole, "114537", "1145370", 1),
		"a shorter one":             strings.Replace(whole, "114537", "11453", 1),
		"a longer text":             strings.Replace(whole, `"category":"violation"`, `"category":"violation\""`, 1),
		"a member less":             strings.Replace(whole, `"threadID":114537,`, "", 1),
		"the last member earlier":   strings.Replace(whole, `"timezoneName":""`, `"x":1`, 1),
		"an end after a comma":      strings.Replace(whole, `"timezoneName":""`, "", 1),
		"an end after a known one":  `{"traceID":12345678901234,}`,
		"a known one and no more":   `{"traceID":12345678901234,`,
		"spaces":                    strings.ReplaceAll(whole, ",\"", " ,  \""),
		"another program's process": strings.Replace(whole, `"processID":0`, `"processID":4242`, 1),
		"a member twice":            strings.Replace(whole, `"threadID":114537,`, `"threadID":114537,"processID":0,`, 1),
	} {
		var mem lineMemory
		for _, before := range []string{whole, line, whole[:300], line, whole} {
			parseNDJSON([]byte(before), &mem)
			got, o := parseNDJSON([]byte(line), &mem)
			want, wantO := parseNDJSON([]byte(line), &lineMemory{})
			if got != want || o != wantO {
				t.Errorf("%s: %+v %v, want %+v %v", name, got, o, want, wantO)
			}
		}
		for _, sh := range mem.shapes {
			if cap(sh.line) > 2*maxShape || cap(sh.members) > 2*maxMembers {
				t.Errorf("%s: %d bytes and %d members are kept", name, cap(sh.line), cap(sh.members))
			}
		}
	}
}

// FuzzNDJSONAgain reads a line after two others, which between them show what
// varies.
func FuzzNDJSONAgain(f *testing.F) {
	whole := logEntry(0, "/kernel", report)
	f.Add([]byte(whole), []byte(nth(whole, 3)), []byte(nth(whole, 5)))
	f.Add([]byte(whole), []byte(logEntry(7, "/x", "y")), []byte(whole))
	f.Add([]byte(`{"a":1,"b":2,"processID":0}`), []byte(`{"a":1,"b":3,"processID":0}`), []byte(`{"a":1,"b":2}`))
	f.Add([]byte(`{"a":1,"b":2 }`), []byte(`{"a":1,"b":3 }`), []byte(`{"a":1,"b":,}`))
	f.Add([]byte(`{"eventMessage":"x","eventType":"lossEvent","lossCount":3}`),
		[]byte(`{"eventMessage":null,"eventType":"lossEvent","lossCount":{"a":1}}`), []byte(`{"eventMessage":null,"eventType":"lossEvent","lossCount":[]}`))
	f.Fuzz(func(t *testing.T, first, second, line []byte) {
		var mem lineMemory
		parseNDJSON(bytes.Clone(first), &mem)
		parseNDJSON(bytes.Clone(second), &mem)
		scratch := bytes.Clone(line)
		got, o := parseNDJSON(scratch, &mem)
		want, wantO := parseNDJSON(line, &lineMemory{})
		if got != want || o != wantO {
			t.Fatalf("%q after %q and %q: %+v %v, want %+v %v", line, first, second, got, o, want, wantO)
		}
		for i := range scratch { // as the reader's buffer is used again
			scratch[i] = '#'
		}
		if got, o = parseNDJSON(line, &mem); got != want || o != wantO {
			t.Fatalf("%q again: %+v %v, want %+v %v", line, got, o, want, wantO)
		}
	})
}

// ambiguousCase: encoding/json takes a member whatever its case, and escapes in
// keys and runs of bytes that are not UTF-8 differently.
func ambiguousCase(line []byte) bool {
	low := bytes.ToLower(line)
	for _, k := range []string{`"eventmessage"`, `"processid"`, `"processimagepath"`} {
		if bytes.Count(low, []byte(k)) != 1 {
			return true
		}
	}
	return bytes.ContainsRune(line, '\ufffd') || bytes.Contains(low, []byte(`\u`)) || !bytes.Equal(bytes.ToValidUTF8(line, nil), line)
}
