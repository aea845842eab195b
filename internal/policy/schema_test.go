package policy

import (
	"bytes"
	"encoding/json"
	cmdline "flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var update = cmdline.Bool("update", false, "write the golden files anew")

const shippedSchema = "../../docs/policy.schema.json"

func TestTheShippedSchemaIsInStep(t *testing.T) {
	if *update {
		if err := os.WriteFile(shippedSchema, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(shippedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Schema()) {
		t.Error("it is another: go test ./internal/policy -run Schema -update")
	}
}

// fits says by a schema alone what is wrong with a value; "" if nothing is.
func fits(s map[string]any, v any) string {
	if ways, ok := s["anyOf"].([]any); ok {
		for _, one := range ways {
			if fits(one.(map[string]any), v) == "" {
				return ""
			}
		}
		return fmt.Sprintf("%v is none of those", v)
	}
	if enum, ok := s["enum"].([]any); ok {
		for _, e := range enum {
			if e == v {
				return ""
			}
		}
		return fmt.Sprintf("%v is not in %v", v, enum)
	}
	switch s["type"] {
	case "object":
		return fitsObject(s, v)
	case "array":
		list, ok := v.([]any)
		if !ok {
			return fmt.Sprintf("%v is no list", v)
		}
		for _, e := range list {
			if why := fits(s["items"].(map[string]any), e); why != "" {
				return why
			}
		}
		return ""
	case "string":
		text, ok := v.(string)
		least, _ := s["minLength"].(float64)
		if pattern, has := s["pattern"].(string); has && ok {
			ok = regexp.MustCompile(pattern).MatchString(text)
		}
		if !ok || len(text) < int(least) {
			return fmt.Sprintf("%v is not the text it should be", v)
		}
		return ""
	case "boolean":
		if _, ok := v.(bool); !ok {
			return fmt.Sprintf("%v is no boolean", v)
		}
		return ""
	case "integer", "number":
		return fitsNumber(s, v)
	}
	return fmt.Sprintf("the schema has the type %v", s["type"])
}

func fitsNumber(s map[string]any, v any) string {
	n, ok := v.(float64)
	least, _ := s["minimum"].(float64)
	most, bounded := s["maximum"].(float64)
	if !ok || n < least || bounded && n > most || s["type"] == "integer" && n != float64(int64(n)) {
		return fmt.Sprintf("%v is not the number it should be", v)
	}
	return ""
}

func fitsObject(s map[string]any, v any) string {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprintf("%v is no mapping", v)
	}
	properties, _ := s["properties"].(map[string]any)
	for key, value := range object {
		inner, known := properties[key].(map[string]any)
		if !known {
			if inner, known = s["additionalProperties"].(map[string]any); !known {
				return "unknown key " + key
			}
		}
		if why := fits(inner, value); why != "" {
			return key + ": " + why
		}
	}
	return ""
}

func TestTheSchemaTakesWhatIsReadAndNoOtherShape(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	check := func(text string) string {
		t.Helper()
		b, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		return fits(schema, v)
	}
	good := append([]string{netPolicy}, everyKey...)
	for _, name := range Templates() {
		text, _ := TemplateText(name)
		good = append(good, string(text))
	}
	for _, text := range good {
		if _, err := Parse(Source{Name: "p", Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
		if why := check(text); why != "" {
			t.Errorf("%s, of\n%s", why, text)
		}
	}
	for _, text := range []string{`netwrk: {}`, `network: {allowedDomain: []}`, `network: {allowedDomains: a.b}`, `filesystem: {denyRead: [1]}`,
		`filesystem: {denyRead: [{path: x}, {paht: x}]}`, `allowPty: "yes"`, `mandatoryDenySearchDepth: 11`, `require: {tier: high}`, `env: {pass: ["A B"]}`,
		`hostPorts: [0]`, `mode: off`, `git: [{repo: x, psh: {}}]`} {
		if _, err := Parse(Source{Name: "p", Data: []byte(text)}); err == nil {
			t.Errorf("read: %s", text)
		}
		if check(text) == "" {
			t.Errorf("the schema takes %s", text)
		}
	}
}

// Every key that the schema has is in the policy that has them all.
func TestEveryKeyIsTried(t *testing.T) {
	keys := map[string]Rule{}
	for _, text := range append(everyKey, `network: {authorizer: {unix: /run/a.sock}}`, `network: {authorizer: {http: "http://127.0.0.1:1/"}}`) {
		f, err := Parse(Source{Name: "p", Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(keys, f.keys)
	}
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for _, key := range schemaKeys(schema, "") {
		if _, ok := keys[key]; !ok && !strings.HasPrefix(key, "git.") {
			t.Errorf("%s is in no test", key)
		}
	}
}

func schemaKeys(s map[string]any, prefix string) []string {
	var out []string
	for _, one := range append(listOf(s["anyOf"]), s["items"]) {
		if inner, ok := one.(map[string]any); ok {
			out = append(out, schemaKeys(inner, prefix)...)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for key, inner := range properties {
		if key == "path" || key == "literal" {
			continue // of an entry of a list
		}
		out = append(out, prefix+key)
		out = append(out, schemaKeys(inner.(map[string]any), prefix+key+".")...)
	}
	return out
}

func listOf(v any) []any {
	list, _ := v.([]any)
	return list
}
