package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// writeBill writes the bill of materials of binaries, as CycloneDX JSON: what
// they say themselves that they were built of.
func writeBill(binaries []string, version, name string) (err error) {
	var info *debug.BuildInfo
	modules := map[string]*debug.Module{}
	for _, b := range binaries {
		if info, err = buildinfo.ReadFile(b); err != nil {
			return fmt.Errorf("read build information: %w", err)
		}
		for _, m := range info.Deps {
			modules[m.Path] = m
		}
	}
	url := func(path, version string) string { return "pkg:golang/" + path + "@" + version }
	main := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeApplication, Name: "sallyport", Version: version,
		BOMRef: url(info.Main.Path, version), PackageURL: url(info.Main.Path, version),
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}},
	}
	parts := []cyclonedx.Component{{
		Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion,
		BOMRef: url("std", info.GoVersion), PackageURL: url("std", info.GoVersion),
	}}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		m := modules[path]
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, cyclonedx.Component{
			Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
			BOMRef: url(m.Path, m.Version), PackageURL: url(m.Path, m.Version),
		})
	}
	var refs []string
	for _, p := range parts {
		refs = append(refs, p.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &main}
	bom.Components = &parts
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
