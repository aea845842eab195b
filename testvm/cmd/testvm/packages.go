package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/matrix"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// What a machine that a package is installed on finds below /payload, and the
// test that it runs.
const (
	packageFile  = "package/sallyport.deb"
	upgradeFile  = "package/upgrade.deb"
	archive      = "package/archive"
	packageTest  = "TestAPackage.*"
	packageSuite = "./testvm/selftest"
)

// packageBoxes are those whose releases sallyport's package is for.
var packageBoxes = []string{"debian12", "debian13"}

// runPackages installs, upgrades, removes and purges a Debian package on machines
// of fresh releases.
func runPackages(ctx context.Context, args []string) error {
	f := newFlags("packages")
	deb := f.String("deb", "", "the package")
	if err := f.parse(args); err != nil {
		return err
	}
	if *deb == "" {
		return usageError{errors.New("packages: name a package with -deb")}
	}
	f.tests.Packages, f.tests.All = []string{packageSuite}, true
	names := f.Args()
	if len(names) == 0 {
		names = packageBoxes
	}
	boxes, err := namedBoxes(names, false)
	if err != nil {
		return err
	}
	c, dir, err := workFolder()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built, err := f.buildPackagePayload(ctx, dir, *deb)
	if err != nil {
		return err
	}
	failed := 0
	for _, b := range boxes {
		row, err := f.runPackage(ctx, c, dir, b, built)
		if err != nil {
			return fmt.Errorf("run %s: %w", b.Name, err)
		}
		failed += matrix.Failed(row)
	}
	if failed > 0 {
		return errFailed
	}
	return nil
}

// buildPackagePayload makes a payload of the package, one that it is upgraded to,
// and the one test.
func (f *testFlags) buildPackagePayload(ctx context.Context, dir, deb string) (vm.Payload, error) {
	built, err := f.buildPayload(ctx, filepath.Join(dir, "tree"))
	if err != nil {
		return built, err
	}
	steps := built.Steps
	built.Steps = nil
	for _, s := range steps {
		if s.Tests && !s.User {
			s.Argv = append(s.Argv, "-test.run="+packageTest)
			built.Steps = append(built.Steps, s)
		}
	}
	upgrade := filepath.Join(dir, "upgrade.deb")
	return built, errors.Join(makeUpgrade(ctx, deb, filepath.Join(dir, "upgrade"), upgrade),
		built.AddFile(packageFile, deb), built.AddFile(upgradeFile, upgrade))
}

// runPackage runs the test on a machine with a box's release and kernel.
func (f *testFlags) runPackage(ctx context.Context, c image.Cache, dir string, b machine.Box, built vm.Payload) ([]matrix.Row, error) {
	debs, err := needed(c, b)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(built.Dir, archive)); err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(built.Dir, archive), os.DirFS(debs)); err != nil {
		return nil, fmt.Errorf("copy archive: %w", err)
	}
	plan := matrix.Plan{
		Machines: []machine.Machine{{Kernel: b.Kernel, Init: machine.Systemd}},
		Payload:  filepath.Join(dir, b.Name+".ext4"), Steps: built.Steps,
	}
	if err := built.Image(ctx, plan.Payload); err != nil {
		return nil, fmt.Errorf("make payload image: %w", err)
	}
	fmt.Printf("%s:\n", b.Name)
	return matrix.Run(ctx, vm.Runner{Images: fresh{c, b.Suite}, Dir: c.Dir, Observe: f.observe}, plan, os.Stdout)
}

// needed is a folder of what the package depends on.
func needed(c image.Cache, b machine.Box) (string, error) { return c.Archive(b.Suite, "bubblewrap") }

// fetchFresh builds what packages are installed on.
func fetchFresh(c image.Cache) error {
	for _, name := range packageBoxes {
		b, _ := machine.FindBox(name)
		if _, err := needed(c, b); err != nil {
			return err
		}
		root, err := c.Fresh(b.Suite)
		if err != nil {
			return err
		}
		fmt.Printf("%-8s %s\n", "fresh", filepath.Base(root))
	}
	return nil
}

// fresh starts machines from a release without what sallyport needs.
type fresh struct {
	image.Cache
	suite string
}

func (f fresh) Root() (string, error) { return f.Fresh(f.suite) }

var versionLine = regexp.MustCompile(`(?m)^Version: (.*)$`)

// makeUpgrade makes a package that a package is upgraded to: the same, with programs
// that say another version.
func makeUpgrade(ctx context.Context, deb, dir, to string) error {
	if err := runTool(ctx, "dpkg-deb", "-R", deb, dir); err != nil {
		return err
	}
	path := filepath.Join(dir, "DEBIAN", "control")
	control, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read control file: %w", err)
	}
	m := versionLine.FindSubmatch(control)
	if m == nil {
		return fmt.Errorf("%s says no version", deb)
	}
	version := string(m[1]) + "+upgrade"
	control = versionLine.ReplaceAll(control, []byte("Version: "+version))
	if err := errors.Join(os.WriteFile(path, control, 0o644), os.RemoveAll(filepath.Join(dir, "DEBIAN", "md5sums"))); err != nil {
		return fmt.Errorf("write control file: %w", err)
	}
	module, err := vm.ModuleDir(ctx)
	if err != nil {
		return err
	}
	for _, program := range []string{"sallyport", "sallyport-agent"} {
		if err := runTool(ctx, "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "go", "-C", module, "build", "-trimpath", "-buildvcs=false",
			"-ldflags=-s -w -X main.version="+version, "-o", filepath.Join(dir, "usr/bin", program), "./cmd/"+program); err != nil {
			return err
		}
	}
	return runTool(ctx, "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", dir, to)
}

func runTool(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
