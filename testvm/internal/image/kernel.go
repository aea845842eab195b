package image

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/testvm/internal/machine"
)

//go:embed files
var embedded embed.FS

// Kernel is a kernel ready to boot.
type Kernel struct {
	Package string
	Release string // as uname -r prints it
	Image   string // path
	Initrd  string // path
	Modules string // path of an ext4 image, for /lib/modules
}

// choice remembers which package a kernel of the table was resolved to.
type choice struct {
	Package string `json:"package"`
}

// Kernel returns a kernel of the table as it was resolved last; the network is
// asked only if it never was.
func (c Cache) Kernel(k machine.Kernel) (Kernel, error) {
	data, err := os.ReadFile(c.path(choiceName(k)))
	if err != nil {
		return c.FetchKernel(k)
	}
	var chosen choice
	if err := json.Unmarshal(data, &chosen); err != nil {
		return Kernel{}, fmt.Errorf("read choice of kernel %s: %w", k.Name, err)
	}
	return c.buildKernel(k, chosen.Package)
}

// Prepare builds what machines with these kernels start from, side by side.
func (c Cache) Prepare(kernels []machine.Kernel) error {
	if err := needAll(); err != nil {
		return err
	}
	var building sync.WaitGroup
	errs := make([]error, len(kernels)+1)
	building.Go(func() { _, errs[0] = c.Root() })
	for i, k := range kernels {
		building.Go(func() { _, errs[i+1] = c.Kernel(k) })
	}
	building.Wait()
	return errors.Join(errs...)
}

// FetchKernel resolves a kernel anew, and builds it if it is one that was not seen before.
func (c Cache) FetchKernel(k machine.Kernel) (Kernel, error) {
	a, err := c.openApt(k.Suite)
	if err != nil {
		return Kernel{}, err
	}
	if err := a.update(); err != nil {
		return Kernel{}, fmt.Errorf("update suite %s: %w", k.Suite, err)
	}
	names, err := a.names("linux-image-")
	if err != nil {
		return Kernel{}, err
	}
	name, err := k.Resolve(names)
	if err != nil {
		return Kernel{}, err
	}
	built, err := c.buildKernel(k, name)
	if err != nil {
		return Kernel{}, err
	}
	data, err := json.Marshal(choice{name})
	if err != nil {
		return Kernel{}, fmt.Errorf("encode choice: %w", err)
	}
	return built, c.replace(choiceName(k), data)
}

func choiceName(k machine.Kernel) string { return "kernels/" + k.Name + ".json" }

// buildKernel downloads a kernel's packages and makes what qemu boots.
func (c Cache) buildKernel(k machine.Kernel, name string) (Kernel, error) {
	recipe := files("kernel.sh", "initrd-init")
	dir, err := c.Make("kernels/"+name+"-"+digest(recipe...), func(path string) error {
		debs, err := c.Make("packages/"+name, func(path string) error { return c.downloadKernel(k, name, path) })
		if err != nil {
			return err
		}
		if err := need(kernelTools); err != nil {
			return err
		}
		return script(recipe[0], debs, path, recipe[1])
	})
	if err != nil {
		return Kernel{}, err
	}
	c.use(c.path("packages/" + name)) // kept for as long: the archive may drop them
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return Kernel{}, fmt.Errorf("read release of %s: %w", name, err)
	}
	return Kernel{
		Package: name, Release: strings.TrimSpace(string(release)),
		Image: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd"), Modules: filepath.Join(dir, "modules.ext4"),
	}, nil
}

// downloadKernel downloads the image package and what it is split into: newer ones
// have their files in linux-binary and linux-modules packages. linux-base packages
// hold nothing that a boot needs, and go from the archive before the image does.
func (c Cache) downloadKernel(k machine.Kernel, name, dir string) error {
	a, err := c.openApt(k.Suite)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := a.download(dir, name); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("find downloaded package: %d of them, %v", len(debs), err)
	}
	depends, err := output("", "dpkg-deb", "-f", debs[0], "Pre-Depends", "Depends")
	if err != nil {
		return err
	}
	if more := splitPackages(name, string(depends)); len(more) > 0 {
		return a.download(dir, more...)
	}
	return nil
}

var kernelParts = regexp.MustCompile(`\blinux-(?:binary|modules)-[a-z0-9.+~-]+`)

// splitPackages names the packages of the same kernel that an image depends on.
func splitPackages(name, depends string) []string {
	version := strings.TrimPrefix(name, "linux-image-")
	seen := map[string]bool{}
	var parts []string
	for _, p := range kernelParts.FindAllString(depends, -1) {
		if strings.HasSuffix(p, "-"+version) && !seen[p] {
			seen[p] = true
			parts = append(parts, p)
		}
	}
	sort.Strings(parts)
	return parts
}
