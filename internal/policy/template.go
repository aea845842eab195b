package policy

import (
	"embed"
	"path"
	"slices"
	"strings"
)

//go:embed templates/*.yaml
var templateFiles embed.FS

// TemplateSRT is for 'sallyport srt' and not listed.
const TemplateSRT = "srt"

// Templates lists the names of the embedded policies.
func Templates() []string {
	entries, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // it is in the binary
	}
	var names []string
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), ".yaml"); name != TemplateSRT {
			names = append(names, name)
		}
	}
	return names
}

// TemplateText gives an embedded policy as it is written.
func TemplateText(name string) ([]byte, error) {
	if name != TemplateSRT && !slices.Contains(Templates(), name) {
		hint := "one of " + strings.Join(Templates(), ", ")
		return nil, &hinted{"no template " + clip(name), hint}
	}
	return templateFiles.ReadFile(path.Join("templates", name+".yaml"))
}

// Template gives an embedded policy. Its rules are those of a file named
// "template:NAME".
func Template(name string) (*File, error) {
	text, err := TemplateText(name)
	if err != nil {
		return nil, err
	}
	f, err := Parse(Source{Name: "template:" + name, Data: text})
	if err != nil {
		return nil, err
	}
	f.paths = nil // there is nothing to protect
	return f, nil
}
