package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// described is what git describe says after a tag: how many commits, and which.
var described = regexp.MustCompile(`^v?(\d+(?:\.\d+)*)(?:-(\d+)-g([0-9a-f]+))?(-dirty)?$`)

// packageVersion is a version as packages want it (deb-version(7)): it begins
// with a digit, and what came after a release sorts after it, what came before
// the first before all.
func (r *release) packageVersion() string {
	m := described.FindStringSubmatch(r.version)
	if m == nil {
		return "0~" + r.date.Format("20060102150405") + "." + strings.ReplaceAll(r.version, "-", ".")
	}
	v := m[1]
	if m[2] != "" {
		v += "+" + m[2] + ".g" + m[3]
	}
	if m[4] != "" {
		v += "+dirty"
	}
	return v
}

// packages makes a Debian and an RPM package.
func (r *release) packages(t target, binaries []string) error {
	root := filepath.Join(r.work, "package_"+t.arch)
	if err := r.stage(root, binaries); err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm"} {
		cmd := exec.Command(r.nfpm, "package", "--config", "internal/dist/package/nfpm.yaml", "--packager", format, "--target", r.out)
		cmd.Env = append(os.Environ(), "ARCH="+t.arch, "VERSION="+r.packageVersion(), "ROOT="+root,
			fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.date.Unix()))
		if err := run(cmd); err != nil {
			return err
		}
	}
	return nil
}

// stage lays a package's files out as they are installed.
func (r *release) stage(root string, binaries []string) error {
	copies := []file{
		{"LICENSE", "usr/share/doc/sallyport/copyright", 0o644},
		{"README.md", "usr/share/doc/sallyport/README.md", 0o644},
		{"sandbox/apparmor/sallyport", "usr/share/sallyport/apparmor", 0o644},
		{filepath.Join(r.work, "sallyport.bash"), "usr/share/bash-completion/completions/sallyport", 0o644},
		{filepath.Join(r.work, "_sallyport"), "usr/share/zsh/vendor-completions/_sallyport", 0o644},
		{filepath.Join(r.work, "sallyport.fish"), "usr/share/fish/vendor_completions.d/sallyport.fish", 0o644},
	}
	for _, b := range binaries {
		copies = append(copies, file{b, "usr/bin/" + filepath.Base(b), 0o755})
	}
	for from, to := range map[string]string{
		"docs/*.md": "usr/share/doc/sallyport", "internal/agent/systemd/*": "usr/lib/systemd/system",
		filepath.Join(r.work, "man", "*.1"): "usr/share/man/man1",
	} {
		names, err := filepath.Glob(from)
		if err != nil || len(names) == 0 {
			return fmt.Errorf("no files %s", from)
		}
		for _, name := range names {
			copies = append(copies, file{name, filepath.Join(to, filepath.Base(name)), 0o644})
		}
	}
	for _, f := range copies {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		if strings.HasSuffix(f.to, ".service") {
			data = []byte(strings.ReplaceAll(string(data), "/usr/local/bin/", "/usr/bin/"))
		}
		to := filepath.Join(root, f.to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, os.FileMode(f.mode)); err != nil {
			return err
		}
	}
	return nil
}
