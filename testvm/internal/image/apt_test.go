package image

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/machine"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestParseMirrors(t *testing.T) {
	both := mirrors{"https://mirror.example/debian/", "https://mirror.example/debian-security/"}
	tests := map[string]struct {
		targets string
		want    mirrors
	}{
		"Debian": {`https://mirror.example/debian/ bookworm main Debian
https://mirror.example/debian/ bookworm-updates main Debian
https://mirror.example/debian-security/ bookworm-security main Debian
`, both},
		"before the first update": {`https://mirror.example/debian/ trixie main $(ORIGIN)
https://mirror.example/debian-security/ trixie-security main $(ORIGIN)`, both},
		"others among them": {`https://other.example/linux/debian/ bookworm stable $(ORIGIN)
https://other.example/node nodistro main Node
https://mirror.example/debian/ bookworm main Debian
https://mirror.example/debian-security/ bookworm-security main Debian`, both},
		"no security":   {"https://mirror.example/debian/ sid main Debian", mirrors{main: both.main}},
		"Ubuntu":        {"https://mirror.example/ubuntu/ noble main Ubuntu", mirrors{}},
		"half a line":   {"https://mirror.example/debian/ bookworm", mirrors{}},
		"nothing":       {"", mirrors{}},
		"only security": {"https://mirror.example/debian-security/ bookworm-security main Debian", mirrors{security: both.security}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := parseMirrors(tt.targets); got != tt.want {
				t.Errorf("parseMirrors = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func FuzzParseMirrors(f *testing.F) {
	f.Add("https://mirror.example/debian/ bookworm main Debian\n")
	f.Add("\x00 bookworm main Debian\n:/debian a main $(ORIGIN)")
	f.Fuzz(func(t *testing.T, targets string) {
		if m := parseMirrors(targets); strings.ContainsAny(m.main+m.security, " \n\t") {
			t.Errorf("parseMirrors(%q) = %+v: would split a line of sources", targets, m)
		}
	})
}

func TestMirrorNamedByTheEnvironmentComesFirst(t *testing.T) {
	env := map[string]string{EnvMirror: "https://a.example/debian", EnvSecurity: "https://b.example/debian-security"}
	got, err := findMirrors(func(k string) string { return env[k] })
	if err != nil || got != (mirrors{env[EnvMirror], env[EnvSecurity]}) {
		t.Errorf("findMirrors = %+v, %v", got, err)
	}
}

func TestSources(t *testing.T) {
	m := mirrors{"https://a.example/debian", "https://b.example/debian-security"}
	released := m.sources("bookworm")
	if strings.Count(released, "\n") != 2 || !contains(released, "b.example/debian-security bookworm-security main") {
		t.Errorf("sources of a release: %q", released)
	}
	if got := m.sources("trixie-backports"); strings.Count(got, "\n") != 1 || contains(got, "security") {
		t.Errorf("sources of backports: %q", got)
	}
	if got := (mirrors{main: m.main}).sources("bookworm"); strings.Count(got, "\n") != 1 {
		t.Errorf("sources without security: %q", got)
	}
}

func TestSplitPackages(t *testing.T) {
	const split = "kmod, linux-initramfs-tool, linux-base-7.3.4+deb13-cloud-amd64 (= 1), " +
		"linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1)"
	tests := map[string]struct {
		depends string
		want    []string
	}{
		"split":              {split, []string{"linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"}},
		"whole":              {"kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool", nil},
		"of another version": {"linux-modules-7.3.3+deb13-cloud-amd64", nil},
		"named twice":        {split + ", " + split, []string{"linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := splitPackages("linux-image-7.3.4+deb13-cloud-amd64", tt.depends); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("splitPackages = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestKernelInTheCacheNeedsNoNetwork(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	t.Setenv("PATH", "") // no apt, no tool at all
	dir := "kernels/linux-image-6.1.0-1-cloud-amd64-" + digest(files("kernel.sh", "initrd-init")...)
	if err := errors.Join(c.replace("kernels/6.1.json", []byte(`{"package":"linux-image-6.1.0-1-cloud-amd64"}`)),
		c.replace(dir+"/release", []byte("6.1.0-1-cloud-amd64\n"))); err != nil {
		t.Fatal(err)
	}
	k, err := c.Kernel(machine.Linux61)
	if err != nil || k.Release != "6.1.0-1-cloud-amd64" || k.Image != c.path(dir+"/vmlinuz") {
		t.Errorf("Kernel = %+v, %v", k, err)
	}
}

func TestMissingToolsAreNamedByPackage(t *testing.T) {
	tools := tools{"a": "pkg-a", "b": "pkg-b", "b2": "pkg-b", "c": "pkg-c"}
	got := tools.missing(func(program string) bool { return program == "a" })
	if !reflect.DeepEqual(got, []string{"pkg-b", "pkg-c"}) {
		t.Errorf("missing = %q", got)
	}
	t.Setenv("PATH", "")
	if err := install([]string{"pkg-b", "pkg-c"}); err == nil || !contains(err.Error(), "pkg-b pkg-c") {
		t.Errorf("install = %v", err)
	}
}

func TestBoxThatCannotBeBuiltIsAnError(t *testing.T) {
	b, _ := machine.FindBox("fedora")
	if path, err := (Cache{Dir: t.TempDir()}).Box(b); err == nil {
		t.Errorf("Box = %q", path)
	}
}
