package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPackageVersionsSortAsTheReleasesDo(t *testing.T) {
	date := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var sorted []string
	for _, tt := range []struct{ said, want string }{
		{"1a2b3c4", "0~20261122100000.1a2b3c4"},
		{"v0.1.0", "0.1.0"},
		{"v0.1.0-3-g1a2b3c4", "0.1.0+3.g1a2b3c4"},
		{"v0.1.0-3-g1a2b3c4-dirty", "0.1.0+3.g1a2b3c4+dirty"},
		{"v0.1.1-dirty", "0.1.1+dirty"},
		{"1.0", "1.0"},
	} {
		r := release{version: tt.said, date: date}
		got := r.packageVersion()
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.said, got, tt.want)
		}
		sorted = append(sorted, got)
	}
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg, which knows the order, is not installed")
	}
	for i := 1; i < len(sorted); i++ {
		if err := exec.Command("dpkg", "--compare-versions", sorted[i-1], "lt", sorted[i]).Run(); err != nil {
			t.Errorf("%s does not come before %s", sorted[i-1], sorted[i])
		}
	}
}

func TestAnArchiveSaysNothingOfWhereItWasMade(t *testing.T) {
	date := time.Unix(1795374878, 0)
	archive := func() []byte {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/x", []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "a.tar.gz")
		if err := writeArchive(out, "top", []file{{dir + "/x", "bin/x", 0o755}}, date); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := archive()
	if !bytes.Equal(first, archive()) {
		t.Error("the same files give another archive")
	}
	zip, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	pack := tar.NewReader(zip)
	h, err := pack.Next()
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(pack)
	if h.Name != "top/bin/x" || h.Mode != 0o755 || !h.ModTime.Equal(date) || h.Uid != 0 || h.Uname != "" || string(data) != "content" {
		t.Errorf("%+v: %s", h, data)
	}
	if _, err := pack.Next(); err != io.EOF {
		t.Errorf("after it: %v", err)
	}
}

func TestTheBillNamesEveryModule(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "bill.json")
	if err := writeBill([]string{exe}, "1.2.3", out); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BomFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatal(err)
	}
	if c := bill.Metadata.Component; bill.BomFormat != "CycloneDX" || c.Name != "sallyport" || c.Version != "1.2.3" {
		t.Errorf("about %+v", bill.Metadata)
	}
	found := map[string]bool{}
	for _, c := range bill.Components {
		found[c.Name] = c.Version != "" && strings.HasPrefix(c.Purl, "pkg:golang/"+c.Name+"@")
	}
	for _, name := range []string{"std", "github.com/CycloneDX/cyclonedx-go"} { // of the test itself
		if !found[name] {
			t.Errorf("%s is missing or has no version: %s", name, data)
		}
	}
	if strings.Contains(string(data), "timestamp") || strings.Contains(string(data), "serialNumber") {
		t.Error("two bills of the same binary differ")
	}
}

// TestAnInstalledPackageLeavesNothing installs, upgrades and purges a package,
// on a copy of this system that goes away: see installed.sh.
func TestAnInstalledPackageLeavesNothing(t *testing.T) {
	deb := os.Getenv("SALLYPORT_DEB")
	if deb == "" {
		t.Skip("SALLYPORT_DEB names no package: 'make dist-check' makes one")
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "testdata/installed.sh", deb, t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
