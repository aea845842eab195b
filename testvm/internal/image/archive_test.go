package image

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheIndexOfAnArchiveHasWhatAptAsksFor(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb, which makes packages, is not installed")
	}
	dir := t.TempDir()
	if err := index(dir); err == nil {
		t.Error("a folder without packages has an index")
	}
	tree := filepath.Join(t.TempDir(), "DEBIAN")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	control := "Package: thing\nVersion: 1:2-3\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: a thing\n and more of it\n"
	if err := os.WriteFile(tree+"/control", []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, "thing_1%3a2-3_all.deb")
	if _, err := output("", "dpkg-deb", "--root-owner-group", "-b", filepath.Dir(tree), deb); err != nil {
		t.Fatal(err)
	}
	if err := index(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dir + "/Packages")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Package: thing\n", "\nVersion: 1:2-3\n", "\n and more of it\n", "\nFilename: ./thing_1%3a2-3_all.deb\n",
		fmt.Sprintf("\nSize: %d\n", len(data)), fmt.Sprintf("\nSHA256: %x\n\n", sha256.Sum256(data))} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(strings.TrimSpace(string(got)), "\n\n") {
		t.Errorf("a stanza is cut in two:\n%s", got)
	}
}
