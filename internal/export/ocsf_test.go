package export

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// schema is an excerpt of OCSF's, see its "about".
type schema struct {
	Version string
	Classes map[string]*objectSchema
	Objects map[string]*objectSchema
}

type objectSchema struct {
	ClassUID    int `json:"class_uid"`
	CategoryUID int `json:"category_uid"`
	Constraints map[string][]string
	Attributes  map[string]attributeSchema
}

type attributeSchema struct {
	Type        string
	Object      bool
	Array       bool
	Requirement string
	Enum        map[string]string
}

func readSchema(t testing.TB) *schema {
	t.Helper()
	b, err := os.ReadFile("testdata/ocsf-" + ocsfVersion + ".json")
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{}
	if err := json.Unmarshal(b, s); err != nil {
		t.Fatal(err)
	}
	if s.Version != ocsfVersion || len(s.Classes) != 4 {
		t.Fatalf("excerpt of version %s with %d classes", s.Version, len(s.Classes))
	}
	return s
}

// problems says where a line does not follow the schema.
func (s *schema) problems(line []byte) []string {
	var o map[string]any
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.UseNumber()
	if err := dec.Decode(&o); err != nil {
		return []string{err.Error()}
	}
	for name, c := range s.Classes {
		if fmt.Sprint(o["class_uid"]) != fmt.Sprint(c.ClassUID) {
			continue
		}
		out := s.object(name, c, o)
		if fmt.Sprint(o["category_uid"]) != fmt.Sprint(c.CategoryUID) {
			out = append(out, fmt.Sprintf("%s: category_uid %v", name, o["category_uid"]))
		}
		if want := fmt.Sprintf("%d%02s", c.ClassUID, fmt.Sprint(o["activity_id"])); fmt.Sprint(o["type_uid"]) != want {
			out = append(out, fmt.Sprintf("%s: type_uid %v, want %s", name, o["type_uid"], want))
		}
		return out
	}
	return []string{fmt.Sprintf("class_uid %v", o["class_uid"])}
}

func (s *schema) object(at string, c *objectSchema, o map[string]any) (out []string) {
	fail := func(format string, args ...any) { out = append(out, at+": "+fmt.Sprintf(format, args...)) }
	for name, a := range c.Attributes {
		if _, there := o[name]; !there && a.Requirement == "required" {
			fail("%s is missing", name)
		}
	}
	if list := c.Constraints["at_least_one"]; len(list) > 0 {
		found := false
		for _, name := range list {
			_, there := o[name]
			found = found || there
		}
		if !found {
			fail("none of %v", list)
		}
	}
	for name, v := range o {
		a, known := c.Attributes[name]
		if !known {
			fail("%s is not in the excerpt", name)
			continue
		}
		list, isList := v.([]any)
		if isList != a.Array {
			fail("%s: list: %t", name, isList)
			continue
		}
		if !isList {
			list = []any{v}
		}
		for _, v := range list {
			out = append(out, s.value(at+"."+name, a, v)...)
		}
	}
	return out
}

func (s *schema) value(at string, a attributeSchema, v any) []string {
	bad := false
	switch v := v.(type) {
	case map[string]any:
		inner := s.Objects[a.Type]
		if a.Type == "object" {
			return nil
		}
		if bad = !a.Object || inner == nil; !bad {
			return s.object(at, inner, v)
		}
	case json.Number:
		_, err := v.Int64()
		bad = a.Type != "integer_t" && a.Type != "long_t" || err != nil
		if len(a.Enum) > 0 && a.Enum[v.String()] == "" {
			return []string{fmt.Sprintf("%s: %s is none of %v", at, v, a.Enum)}
		}
	case string:
		bad = a.Type != "string_t"
	case bool:
		bad = a.Type != "boolean_t"
	}
	if bad {
		return []string{fmt.Sprintf("%s: %T where %s is wanted", at, v, a.Type)}
	}
	return nil
}

// sample is an event as layers make it.
func sample(v event.Verdict, op event.Operation, r event.Reason, o event.Object) Record {
	now := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
	return Record{ID: "20261122T100000.000000000Z-u1000.jsonl:7", Event: event.Event{Schema: 1, Seq: 7, Time: now, First: now, Last: now, Count: 2,
		BootID: "b", Host: "build-3", Sandbox: event.Sandbox{ID: "0123456789ab", Name: "ci", PolicySHA256: "ff", Tier: event.TierTrace},
		Verdict: v, Layer: event.LayerProxy, Operation: op, Reason: r, Rule: "policy.yaml:3", Object: o, Errno: "EACCES", Detail: "said",
		Process:   &event.Process{PID: 42, ExecID: "42:7", Exe: "/usr/bin/curl", Comm: "curl", Argv: []event.Text{"curl", "x"}, UID: 1000},
		Ancestors: []event.Process{{PID: 41, ExecID: "41:6", Comm: "sh", UID: 1000}}}}
}

func TestEveryEventFollowsTheSchemaOfOCSF(t *testing.T) {
	s := readSchema(t)
	objects := []event.Object{{}, {Host: "a.example", Addr: "192.0.2.1", Port: 443, Proto: "tcp"}, {Path: "/etc/shadow", To: "/tmp/x"},
		{Socket: "netlink/raw/0"}, {Syscall: "mount"}, {Path: "a\xff\x1b\n\"\\"}}
	classes := map[string]int{}
	for op := range event.Operations() {
		for v := range event.Verdicts() {
			for reason := range event.Reasons() {
				for i, o := range objects {
					r := sample(event.Verdict(v), event.Operation(op), event.Reason(reason), o)
					if (op+v+reason+i)%3 == 0 {
						r.Process, r.Ancestors = nil, nil
					}
					line, err := OCSF(&r, BodyMost)
					if err != nil {
						t.Fatalf("%+v: %v", r.Event, err)
					}
					if p := s.problems(line); len(p) > 0 {
						t.Fatalf("%s: %q", line, p)
					}
					var c struct {
						Class int `json:"class_uid"`
					}
					if err := json.Unmarshal(line, &c); err != nil {
						t.Fatal(err)
					}
					classes[fmt.Sprint(c.Class)]++
				}
			}
		}
	}
	if len(classes) != 4 {
		t.Errorf("classes %v", classes)
	}
}

func TestTheSchemaIsHeldAgainstWhatIsWrong(t *testing.T) {
	s := readSchema(t)
	r := sample(event.Deny, event.FileRead, event.PathHidden, event.Object{Path: "/etc/shadow"})
	line, err := OCSF(&r, BodyMost)
	if err != nil || len(s.problems(line)) > 0 {
		t.Fatalf("%s: %v", line, err)
	}
	for name, change := range map[string][2]string{
		"a class that is not":     {`"class_uid":1001`, `"class_uid":1002`},
		"an activity that is not": {`"activity_id":2`, `"activity_id":77`},
		"text for a number":       {`"count":2`, `"count":"2"`},
		"another type":            {`"type_uid":100102`, `"type_uid":100103`},
		"no file":                 {`"file":`, `"file_":`},
		"a fraction of a time":    {`"time":1795341600123`, `"time":1795341600123.5`},
	} {
		changed := strings.Replace(string(line), change[0], change[1], 1)
		if changed == string(line) {
			t.Errorf("%s: no %s in %s", name, change[0], line)
		} else if len(s.problems([]byte(changed))) == 0 {
			t.Errorf("%s is taken: %s", name, changed)
		}
	}
}

func TestOCSFHasTheLengthThatIsAskedFor(t *testing.T) {
	s := readSchema(t)
	r := sample(event.Deny, event.FileRename, event.PathHidden, event.Object{Path: event.Text(strings.Repeat("\x01", 4096)),
		To: event.Text(strings.Repeat("\xff", 4096))})
	for range 100 {
		r.Process.Argv = append(r.Process.Argv, event.Text(strings.Repeat("\x1b", 100)))
		r.Ancestors = append(r.Ancestors, *r.Process)
	}
	for _, most := range []int{BodyMost, 100_000, 20_000, maxMessage - 500} {
		line, err := OCSF(&r, most)
		if err != nil || len(line) > most {
			t.Errorf("%d bytes of %d: %v", len(line), most, err)
		}
		if p := s.problems(line); len(p) > 0 {
			t.Errorf("%d: %q", most, p)
		}
	}
	if _, err := OCSF(&r, 100); err == nil {
		t.Error("an event in 100 bytes")
	}
}

func FuzzOCSF(f *testing.F) {
	f.Add("/etc/shadow", "a.example", "curl\x00-x", uint8(9), uint8(13), uint8(0))
	f.Add("\xff\xfe", "\u202e", "\x1b[2J", uint8(1), uint8(21), uint8(4))
	s := readSchema(f)
	f.Fuzz(func(t *testing.T, path, host, arg string, op, reason, verdict uint8) {
		r := sample(event.Verdict(int(verdict)%len(event.Verdicts())), event.Operation(int(op)%len(event.Operations())),
			event.Reason(int(reason)%len(event.Reasons())), event.Object{Path: event.Text(path), Host: event.Text(host)})
		r.Process.Argv = []event.Text{event.Text(arg)}
		line, err := OCSF(&r, maxMessage)
		if err != nil {
			t.Fatal(err)
		}
		if p := s.problems(line); len(p) > 0 {
			t.Fatalf("%s: %q", line, p)
		}
	})
}
