package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/sallyport/sallyport/testvm/internal/machine"
)

// boxPackages are those of boxes: what Vagrant needs to get in, and what the
// Vagrantfile would install, so that no network is needed inside.
var boxPackages = slices.Concat(testPackages, systemPackages, []string{"rsync", "sudo"})

// Box returns a box file for Vagrant with libvirt, under a name that changes with
// what it is built from.
func (c Cache) Box(b machine.Box) (string, error) {
	if !b.Built() {
		return "", fmt.Errorf("box %s cannot be built, only pulled", b.Name)
	}
	kernel, err := c.Kernel(b.Kernel)
	if err != nil {
		return "", fmt.Errorf("get kernel %s: %w", b.Kernel.Name, err)
	}
	recipe := files("box.sh", "debloat.sh")
	key := digest(slices.Concat(recipe, boxPackages, []string{kernel.Image, b.Suite})...)
	return c.Make("boxes/"+b.Name+"-"+key+".box", func(path string) error {
		if err := NeedVagrant(); err != nil {
			return err
		}
		insecure, err := vagrantKey()
		if err != nil {
			return err
		}
		userland, err := c.userland(b.Suite, boxPackages)
		if err != nil {
			return err
		}
		dir, err := unpackFiles("debloat.sh")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		return script(recipe[0], userland, filepath.Dir(kernel.Image), path, dir, insecure)
	})
}

// vagrantKey finds the public key that every box accepts at first.
func vagrantKey() (string, error) {
	for _, pattern := range []string{
		"/usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub",
		"/opt/vagrant/embedded/gems/gems/vagrant-*/keys/vagrant.pub",
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("find Vagrant's public key: not where its packages put it")
}

// LibvirtScript runs a command beside a private libvirtd: sh -eu -c SCRIPT NAME STATE COMMAND...
func LibvirtScript() string { return files("libvirt.sh")[0] }

// VagrantScript takes a machine up, through its tests, and down again: sh -eu -c
// SCRIPT NAME MACHINE REPORT.
func VagrantScript() string { return files("vagrant.sh")[0] }

// BoxHome returns a home for Vagrant in which a box is known by its public name.
func (c Cache) BoxHome(b machine.Box) (string, error) {
	box, err := c.Box(b)
	if err != nil {
		return "", err
	}
	if err := NeedVagrant(); err != nil {
		return "", err
	}
	return c.Make("vagrant/"+filepath.Base(box), func(path string) error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		cmd := exec.Command("vagrant", "--no-color", "box", "add", "--provider=libvirt", "--name="+b.Public, box)
		cmd.Env = append(os.Environ(), "VAGRANT_HOME="+path, "VAGRANT_CHECKPOINT_DISABLE=1")
		cmd.Dir = path
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("add box: %w\n%s", err, tail(string(out), 20))
		}
		return nil
	})
}
