package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/machine"
)

// archive stands in for apt: a folder with a file of package names, and what the
// program was asked for.
type archive struct{ dir string }

// fakeApt puts scripts in the place of apt-get, apt-cache and the tools that build.
func fakeApt(t *testing.T, names ...string) archive {
	t.Helper()
	a := archive{t.TempDir()}
	scripts := map[string]string{
		"apt-get": `echo "$@" >>"$ARCHIVE/asked"
case "$*" in
*" download "*) shift $(($# - 1)); : >"$1_1_amd64.deb" ;;
*" update") [ ! -e "$ARCHIVE/down" ] || { echo "cannot connect" >&2; exit 100; } ;;
esac`,
		"apt-cache": `cat "$ARCHIVE/names"`,
		"dpkg-deb":  `echo "linux-modules-6.1.0-3-cloud-amd64 (= 1)"`,
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.offer(t, names...)
	t.Setenv("ARCHIVE", a.dir)
	t.Setenv(EnvMirror, "https://mirror.example/debian")
	t.Setenv("PATH", a.dir+":"+os.Getenv("PATH"))
	return a
}

func (a archive) offer(t *testing.T, names ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, "names"), []byte(strings.Join(names, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// built puts a kernel into the cache as if it had been built.
func built(t *testing.T, c Cache, name string) {
	t.Helper()
	dir := "kernels/" + name + "-" + digest(files("kernel.sh", "initrd-init")...)
	if err := c.replace(dir+"/release", []byte(strings.TrimPrefix(name, "linux-image-")+"\n")); err != nil {
		t.Fatal(err)
	}
}

const (
	older = "linux-image-6.1.0-2-cloud-amd64"
	newer = "linux-image-6.1.0-3-cloud-amd64"
)

func TestFetchFollowsTheArchiveAndKernelDoesNot(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	a := fakeApt(t, older)
	built(t, c, older)
	built(t, c, newer)
	want := func(what string, got Kernel, err error, name string) {
		t.Helper()
		if err != nil || got.Package != name {
			t.Errorf("%s: %s, %v; want %s", what, got.Package, err, name)
		}
	}
	k, err := c.Kernel(machine.Linux61)
	want("never resolved", k, err, older)
	a.offer(t, older, newer)
	k, err = c.Kernel(machine.Linux61)
	want("resolved before", k, err, older)
	k, err = c.FetchKernel(machine.Linux61)
	want("fetched", k, err, newer)
	k, err = c.Kernel(machine.Linux61)
	want("after fetching", k, err, newer)
}

func TestFetchWithoutNetworkKeepsTheChoice(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	a := fakeApt(t, older)
	built(t, c, older)
	if _, err := c.FetchKernel(machine.Linux61); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "down"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.FetchKernel(machine.Linux61); err == nil || !contains(err.Error(), "cannot connect") {
		t.Errorf("fetch without network: %v", err)
	}
	if k, err := c.Kernel(machine.Linux61); err != nil || k.Package != older {
		t.Errorf("kernel without network: %s, %v", k.Package, err)
	}
}

func TestAptIsAskedInAStateOfItsOwn(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	a := fakeApt(t, newer)
	built(t, c, newer)
	if _, err := c.FetchKernel(machine.Linux61); err != nil {
		t.Fatal(err)
	}
	asked, err := os.ReadFile(filepath.Join(a.dir, "asked"))
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"SourceList", "SourceParts"} {
		if !contains(string(asked), "Dir::Etc::"+option+"="+c.Dir) {
			t.Errorf("%s is the system's: %s", option, asked)
		}
	}
	for _, option := range []string{"State::Lists", "State::Status", "Cache", "Cache::Archives"} {
		if !contains(string(asked), "Dir::"+option+"="+c.Dir) {
			t.Errorf("%s is the system's: %s", option, asked)
		}
	}
	sources, err := os.ReadFile(c.path("apt/bookworm/sources.list"))
	if err != nil || !contains(string(sources), "https://mirror.example/debian bookworm main") {
		t.Errorf("sources %q, %v", sources, err)
	}
}

func TestDownloadTakesWhatAKernelIsSplitInto(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	fakeApt(t, newer)
	dir := filepath.Join(t.TempDir(), "packages")
	if err := c.downloadKernel(machine.Linux61, newer, dir); err != nil {
		t.Fatal(err)
	}
	debs, _ := filepath.Glob(dir + "/*.deb")
	if len(debs) != 2 || !contains(strings.Join(debs, " "), "linux-modules-6.1.0-3-cloud-amd64") {
		t.Errorf("downloaded %q", debs)
	}
}

func TestBrokenChoiceIsAnError(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	if err := c.replace("kernels/6.1.json", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if k, err := c.Kernel(machine.Linux61); err == nil {
		t.Errorf("Kernel = %+v", k)
	}
}

// TestKernelScriptMakesWhatAMachineBoots runs it on a package of our own.
func TestKernelScriptMakesWhatAMachineBoots(t *testing.T) {
	for program := range kernelTools {
		if !look(program) {
			t.Skipf("%s is not installed", program)
		}
	}
	const release = "6.1.0-3-cloud-amd64"
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for name, text := range map[string]string{
		"DEBIAN/control":                                    "Package: kernel\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n",
		"boot/vmlinuz-" + release:                           "a kernel",
		"usr/lib/modules/" + release + "/modules.order":     "",
		"usr/lib/modules/" + release + "/modules.builtin":   "kernel/fs/ext4/ext4.ko\n",
		"usr/lib/modules/" + release + "/kernel/readme.txt": "no modules",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "packages"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := output("", "dpkg-deb", "--build", "--root-owner-group", tree, filepath.Join(dir, "packages", "kernel.deb")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := script(files("kernel.sh")[0], filepath.Join(dir, "packages"), out, "#!/bin/sh\necho first\n"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"vmlinuz": "a kernel", "release": release + "\n"} {
		if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	initrd, err := exec.Command("sh", "-c", "gzip -dc "+out+"/initrd | cpio --quiet -i --to-stdout init").Output()
	if err != nil || string(initrd) != "#!/bin/sh\necho first\n" {
		t.Errorf("init of the initrd is %q, %v", initrd, err)
	}
	found, err := exec.Command("/sbin/debugfs", "-R", "cat /"+release+"/kernel/readme.txt", out+"/modules.ext4").Output()
	if err != nil || string(found) != "no modules" {
		t.Errorf("modules.ext4 holds %q, %v", found, err)
	}
	if left, _ := filepath.Glob(out + "/work*"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
