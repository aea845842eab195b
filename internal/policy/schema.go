package policy

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A JSON Schema (draft 2020-12) is made by the very functions that read a
// policy: with a sketch to fill in, each writes down what it takes instead of
// reading. So no key can be read that is not in the schema, nor the reverse.

type sketch map[string]any

// schemaOf gives what a shape takes.
func (w *walker) schemaOf(s shape) sketch {
	outer := w.sketch
	w.sketch = sketch{}
	s(w, nil)
	made := w.sketch
	w.sketch = outer
	return made
}

// sketched writes down what is taken here; false: there is a value to read.
func (w *walker) sketched(what sketch) bool {
	if w.sketch == nil {
		return false
	}
	if _, done := w.sketch["type"]; done || w.sketch["enum"] != nil || w.sketch["anyOf"] != nil {
		return true // the wider description stands
	}
	for k, v := range what {
		w.sketch[k] = v
	}
	return true
}

// textSketch describes text; none is empty.
func textSketch() sketch { return sketch{"type": "string", "minLength": 1} }

// Schema gives the JSON Schema of policy files.
func Schema() []byte {
	w := &walker{file: newFile("schema")}
	s := w.schemaOf(keys().root)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "sallyport policy"
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		panic(err) // strings and numbers only
	}
	return out.Bytes()
}

// eitherSketch joins what two shapes take.
func (w *walker) eitherSketch(shapes ...shape) bool {
	if w.sketch == nil {
		return false
	}
	var all []any
	for _, s := range shapes {
		all = append(all, w.schemaOf(s))
	}
	return w.sketched(sketch{"anyOf": all})
}

// sketchObject describes a mapping with known keys.
func (w *walker) sketchObject(fields map[string]shape) bool {
	if w.sketch == nil {
		return false
	}
	properties := sketch{}
	for key, field := range fields {
		w.path = append(w.path, key)
		properties[key] = w.schemaOf(field)
		w.path = w.path[:len(w.path)-1]
	}
	return w.sketched(sketch{"type": "object", "properties": properties, "additionalProperties": false})
}

// sketchRecord describes a mapping with free keys.
func (w *walker) sketchRecord(use func(w *walker, key string, kn, v ast.Node)) bool {
	if w.sketch == nil {
		return false
	}
	value := w.schemaOf(func(w *walker, _ ast.Node) { use(w, "A", nil, nil) })
	if strings.HasPrefix(w.key(), "env") { // an empty value is one
		delete(value, "minLength")
	}
	return w.sketched(sketch{"type": "object", "additionalProperties": value})
}
