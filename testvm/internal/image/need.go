package image

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

// tools maps programs to the Debian packages that have them.
type tools map[string]string

var (
	kernelTools  = tools{"busybox": "busybox-static", "cpio": "cpio", "depmod": "kmod", "mkfs.ext4": "e2fsprogs", "xz": "xz-utils", "dpkg-deb": "dpkg"}
	rootTools    = tools{"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "dpkg-deb": "dpkg"}
	qemuTools    = tools{"qemu-system-x86_64": "qemu-system-x86", "mkfs.ext4": "e2fsprogs"}
	vagrantTools = tools{
		"vagrant": "vagrant", "libvirtd": "libvirt-daemon-system", "virsh": "libvirt-clients",
		"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "dnsmasq": "dnsmasq-base",
		"rsync": "rsync", "debugfs": "e2fsprogs", "ssh": "openssh-client", "dbus-daemon": "dbus", "iptables": "iptables",
	}
	vagrantPackages = []string{"vagrant-libvirt", "libvirt-daemon-driver-qemu"}
)

// NeedQEMU makes sure that VMs can be started.
func NeedQEMU() error { return need(qemuTools) }

// needAll is for root, who may install: once for all, since apt-get takes its time.
func needAll() error {
	if os.Geteuid() != 0 {
		return NeedQEMU()
	}
	all := tools{}
	for _, t := range []tools{qemuTools, kernelTools, rootTools} {
		maps.Copy(all, t)
	}
	return need(all)
}

// NeedVagrant makes sure that Vagrant can start VMs through libvirt.
func NeedVagrant() error {
	if len(vagrantTools.missing(look)) == 0 {
		return nil
	}
	return install(append(vagrantTools.missing(look), vagrantPackages...))
}

// installing is held while apt-get runs: it has one lock, and does not wait for it.
var installing sync.Mutex

// need installs what is missing, or says what is.
func need(t tools) error {
	installing.Lock()
	defer installing.Unlock()
	packages := t.missing(look)
	if len(packages) == 0 {
		return nil
	}
	return install(packages)
}

func install(packages []string) error {
	list := strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("programs of these Debian packages are missing: %s", list)
	}
	args := append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)
	cmd := exec.Command("apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w\n%s", list, err, tail(string(out), 20))
	}
	return nil
}

// missing lists the packages of the programs that are not found, sorted.
func (t tools) missing(look func(string) bool) []string {
	seen := map[string]bool{}
	var packages []string
	for program, pkg := range t {
		if !look(program) && !seen[pkg] {
			seen[pkg] = true
			packages = append(packages, pkg)
		}
	}
	sort.Strings(packages)
	return packages
}

// look searches PATH and where Debian keeps root's programs.
func look(program string) bool {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}
