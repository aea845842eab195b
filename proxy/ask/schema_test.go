package ask

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

//go:embed schema.json
var schemaText []byte

// schemaNode is what schema.json uses of JSON Schema.
type schemaNode struct {
	Type                 string
	Required             []string
	AdditionalProperties *bool
	Properties           map[string]*schemaNode
	Items                *schemaNode
	Enum                 []any
	MaxLength            *int
	Minimum, Maximum     *float64
	Defs                 map[string]*schemaNode `json:"$defs"`
}

func schema(t testing.TB, name string) *schemaNode {
	t.Helper()
	var root schemaNode
	if err := json.Unmarshal(schemaText, &root); err != nil {
		t.Fatal(err)
	}
	return root.Defs[name]
}

// check says what of a value is not as the schema has it.
func (s *schemaNode) check(v any) error {
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%v is none of %v", v, s.Enum)
	}
	switch x := v.(type) {
	case string:
		if s.Type != "string" || s.MaxLength != nil && len(x) > *s.MaxLength {
			return fmt.Errorf("%q is no %s, or too long", x, s.Type)
		}
	case float64:
		if s.Type != "integer" || x != float64(int(x)) || s.Minimum != nil && x < *s.Minimum || s.Maximum != nil && x > *s.Maximum {
			return fmt.Errorf("%v is no %s, or out of bounds", x, s.Type)
		}
	case []any:
		if s.Type != "array" {
			return fmt.Errorf("a list is no %s", s.Type)
		}
		for _, item := range x {
			if err := s.Items.check(item); err != nil {
				return err
			}
		}
	case map[string]any:
		return s.checkObject(x)
	default:
		return fmt.Errorf("%v is no %s", v, s.Type)
	}
	return nil
}

func (s *schemaNode) checkObject(x map[string]any) error {
	if s.Type != "object" {
		return fmt.Errorf("a mapping is no %s", s.Type)
	}
	for _, r := range s.Required {
		if _, ok := x[r]; !ok {
			return fmt.Errorf("no %s", r)
		}
	}
	for k, v := range x {
		p := s.Properties[k]
		if p == nil {
			return fmt.Errorf("%s is not in the schema", k)
		}
		if err := p.check(v); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

func target(t testing.TB, s string) policy.NetRequest {
	t.Helper()
	req, err := policy.ParseNetTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestRequestsAreAsTheSchemaHasThem(t *testing.T) {
	s := schema(t, "request")
	b := New(Config{Session: "a1", Name: "build\x1b"})
	p := &event.Process{PID: 7, Exe: "/bin/\xff", Argv: []event.Text{"sh", "\u202ex"}}
	for _, host := range []string{"example.com:443", "[2001:db8::1]:25", "xn--bcher-kva.example:80", strings.Repeat("a.", 120) + "example.com:1"} {
		for _, q := range []Question{{Kind: KindConnect, Via: "transparent"}, {Kind: KindHTTP, Via: "http", Process: p, SNI: "x.example"}} {
			q.Req = target(t, host)
			line, err := Encode(b.request(q, newID(), time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if err := s.check(v); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

// TestTheSchemaHasEveryField keeps the types and the schema in step.
func TestTheSchemaHasEveryField(t *testing.T) {
	for name, v := range map[string]any{"request": Request{}, "reply": Reply{}} {
		s := schema(t, name)
		of := reflect.TypeOf(v)
		var fields []string
		for i := range of.NumField() {
			tag, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			fields = append(fields, tag)
		}
		for f := range s.Properties {
			if !slices.Contains(fields, f) {
				t.Errorf("%s.%s is in the schema alone", name, f)
			}
		}
		for _, f := range fields {
			if s.Properties[f] == nil {
				t.Errorf("%s.%s is not in the schema", name, f)
			}
		}
	}
}

// agree holds the parser against the schema: what one takes the other does too.
func agree(t testing.TB, data []byte) {
	t.Helper()
	_, err := ParseReply(data)
	var v any
	if json.Unmarshal(data, &v) != nil {
		if err == nil {
			t.Errorf("%q is no JSON, and taken", data)
		}
		return
	}
	if bad := schema(t, "reply").check(v); err == nil && bad != nil {
		t.Errorf("%q is taken, and not of the schema: %v", data, bad)
	}
}
