package image

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// rootSuite is the Debian release whose programs test VMs have; sallyport is
// developed on it.
const rootSuite = "bookworm"

// testPackages are what the project's tests use, where it can be had.
var testPackages = []string{
	"bubblewrap", "ca-certificates", "curl", "git", "iproute2", "keyutils", "nftables", "openssh-client",
	"openssh-server", "procps", "python3", "strace", "util-linux",
}

// systemPackages make a system of it.
var systemPackages = []string{"dbus", "dbus-user-session", "kmod", "libpam-systemd", "systemd", "systemd-sysv", "udev"}

// rootPackages are those of the root file system; apparmor is for one of the boots.
var rootPackages = slices.Concat(testPackages, systemPackages, []string{"apparmor"})

// Root returns the root file system of test VMs, an ext4 image that machines
// start from a snapshot of. It serves both variants: init= chooses.
func (c Cache) Root() (string, error) { return c.system(rootSuite, rootPackages) }

// Fresh returns the root file system of a Debian release on which nothing was
// installed that sallyport needs.
func (c Cache) Fresh(suite string) (string, error) {
	return c.system(suite, slices.Concat(systemPackages, []string{"apparmor"}))
}

func (c Cache) system(suite string, packages []string) (string, error) {
	recipe := files("root.sh", "debloat.sh", "plain-init", "job", "testvm.service", "testvm-nocaps")
	key := digest(append(recipe, packages...)...)
	return c.Make("root/"+suite+"-"+key+".ext4", func(path string) error {
		tree, err := c.userland(suite, packages)
		if err != nil {
			return err
		}
		dir, err := unpackFiles("debloat.sh", "plain-init", "job", "testvm.service", "testvm-nocaps")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		return script(recipe[0], tree, path, dir)
	})
}

// userland returns a tarball of a Debian release with some packages.
func (c Cache) userland(suite string, packages []string) (string, error) {
	key := digest(append([]string{suite}, packages...)...)
	return c.Make("userland/"+suite+"-"+key+".tar", func(path string) error {
		if err := need(rootTools); err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return fmt.Errorf("building a root file system needs root")
		}
		m, err := findMirrors(os.Getenv)
		if err != nil {
			return err
		}
		args := []string{"--quiet", "--mode=root", "--variant=minbase", "--format=tar",
			"--architectures=amd64", `--aptopt=Acquire::Retries "3"`, "--include=" + strings.Join(packages, ","),
			"--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
			"--dpkgopt=path-exclude=/usr/share/locale/*", suite, path}
		args = append(args, strings.Split(strings.TrimSpace(m.sources(suite)), "\n")...)
		_, err = output("", "mmdebstrap", args...)
		return err
	})
}

// unpackFiles puts embedded files into a new folder, for scripts to copy from.
func unpackFiles(names ...string) (string, error) {
	dir, err := os.MkdirTemp("", "testvm-files-")
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	for i, text := range files(names...) {
		if err := os.WriteFile(dir+"/"+names[i], []byte(text), 0o755); err != nil {
			os.RemoveAll(dir)
			return "", fmt.Errorf("write %s: %w", names[i], err)
		}
	}
	return dir, nil
}

// script runs an embedded shell script; what it prints goes into the error.
func script(text string, args ...string) error {
	cmd := exec.Command("sh", append([]string{"-eu", "-c", text, "testvm"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tail(string(out), 20))
	}
	return nil
}
