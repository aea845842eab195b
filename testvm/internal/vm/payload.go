package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// EnvBin names the sallyport binary inside a test VM, where no compiler is.
const EnvBin = "SALLYPORT_BIN"

const (
	mountPoint = "/payload" // where a machine finds its payload
	surveyTime = 5 * time.Minute
	surveyRoot = "survey as root"
	surveyUser = "survey as user"
	ownBinary  = "bin/testvm"
	ownPackage = "./testvm/cmd/testvm"
)

// Payload is a folder of compiled tests with the sources around them, and what
// there is to run in it.
type Payload struct {
	Dir   string
	Steps []report.Step
}

// goPackage is the part of go list's answer that is used.
type goPackage struct {
	ImportPath   string
	Dir          string
	TestGoFiles  []string
	XTestGoFiles []string
}

// BuildPayload compiles the tests that are selected, for Linux, and copies the
// module's files around them: tests find their testdata where go test has it. Each
// part of a package becomes a step.
func BuildPayload(ctx context.Context, dir string, sel Selection) (Payload, error) {
	p := Payload{Dir: dir, Steps: SurveySteps()}
	if sel.Only != "" {
		p.Steps = nil
	}
	module, err := ModuleDir(ctx)
	if err != nil {
		return p, err
	}
	for binary, pkg := range map[string]string{
		ownBinary: ownPackage, "bin/sallyport": "./cmd/sallyport", "bin/sallyport-agent": "./cmd/sallyport-agent",
	} {
		if err := buildBinary(ctx, module, dir, binary, pkg); err != nil {
			return p, err
		}
	}
	if err := copySources(ctx, module, filepath.Join(dir, "src")); err != nil {
		return p, err
	}
	packages, err := listPackages(ctx, sel.Packages)
	if err != nil {
		return p, err
	}
	for _, pkg := range packages {
		rel, err := filepath.Rel(module, pkg.Dir)
		if err != nil {
			return p, fmt.Errorf("place package %s: %w", pkg.ImportPath, err)
		}
		test := filepath.Join(dir, "src", rel, "package.test")
		if _, err := goTool(ctx, "test", "-c", "-o", test, pkg.ImportPath); err != nil {
			return p, err
		}
		steps, err := testSteps(filepath.ToSlash(rel), pkg.Dir, sel)
		if err != nil {
			return p, err
		}
		p.Steps = append(p.Steps, steps...)
	}
	return p, nil
}

// ModuleDir is where the module that is worked on lies.
func ModuleDir(ctx context.Context) (string, error) {
	out, err := goTool(ctx, "list", "-f", "{{.Dir}}", "-m")
	return strings.TrimSpace(string(out)), err
}

func buildBinary(ctx context.Context, module, dir, binary, pkg string) error {
	_, err := goTool(ctx, "-C", module, "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, binary), pkg)
	return err
}

// AddHarness adds what runs jobs: the one thing that every payload needs.
func (p Payload) AddHarness(ctx context.Context) error {
	module, err := ModuleDir(ctx)
	if err != nil {
		return err
	}
	return buildBinary(ctx, module, p.Dir, ownBinary, ownPackage)
}

// AddFile adds a file under a name below the payload's folder.
func (p Payload) AddFile(name, path string) error {
	return copyFile(path, filepath.Join(p.Dir, filepath.FromSlash(name)))
}

// SurveySteps print which features the machine has.
func SurveySteps() []report.Step {
	argv := []string{mountPoint + "/" + ownBinary, "survey"}
	return []report.Step{
		{Name: surveyRoot, Argv: argv, Deadline: surveyTime},
		{Name: surveyUser, Argv: argv, User: true, Deadline: surveyTime},
	}
}

// IsSurvey reports whether a step is one that SurveySteps gave.
func IsSurvey(s report.Step) bool { return s.Name == surveyRoot || s.Name == surveyUser }

// testSteps run the parts of one package, a folder of the module, that are selected.
func testSteps(rel, dir string, sel Selection) ([]report.Step, error) {
	var steps []report.Step
	for _, p := range sel.parts(rel) {
		flags, err := p.flags(dir)
		if err != nil {
			return nil, err
		}
		step := report.Step{
			Name:     p.name(rel),
			Dir:      mountPoint + "/src/" + rel,
			Argv:     append([]string{"./package.test", "-test.v=test2json", "-test.timeout=0"}, flags...),
			Env:      append([]string{EnvBin + "=" + mountPoint + "/bin/sallyport"}, p.env...),
			User:     p.user,
			Tests:    true,
			On:       p.on,
			Kernel:   p.kernel,
			Deadline: sel.Deadline,
		}
		if sel.Short {
			step.Argv = append(step.Argv, "-test.short")
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// listPackages resolves patterns to the packages that have tests.
func listPackages(ctx context.Context, patterns []string) ([]goPackage, error) {
	out, err := goTool(ctx, append([]string{"list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			packages = append(packages, p)
		}
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("no package with tests in %s", strings.Join(patterns, " "))
	}
	return packages, nil
}

// goTool runs the go command for the machines' system, without cgo: their C
// library is another one.
func goTool(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	return capture(cmd)
}

func capture(cmd *exec.Cmd) ([]byte, error) {
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:2], " "), err, &complaints)
	}
	return out.Bytes(), nil
}

// copySources copies what belongs to the repository: neither history nor what it ignores.
func copySources(ctx context.Context, module, to string) error {
	names, err := capture(exec.CommandContext(ctx, "git", "-C", module, "ls-files", "-z", "-co", "--exclude-standard"))
	if err != nil {
		return err
	}
	for _, name := range strings.Split(strings.TrimRight(string(names), "\x00"), "\x00") {
		if err := copyFile(filepath.Join(module, name), filepath.Join(to, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("copy sources: %w", err)
		}
	}
	return nil
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err // a file that was removed and not yet forgotten
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm()|0o444)
}

// Image makes an ext4 image of the payload, with some room to write.
func (p Payload) Image(ctx context.Context, path string) error {
	var size int64
	err := filepath.WalkDir(p.Dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		size += info.Size() + 4096
		return err
	})
	if err != nil {
		return fmt.Errorf("measure payload: %w", err)
	}
	blocks := fmt.Sprintf("%dM", size>>20+size>>22+64)
	cmd := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-L", "payload", "-E", "root_owner=0:0,lazy_itable_init=0",
		"-O", "none,extents,filetype,dir_index,sparse_super,extra_isize", "-d", p.Dir, path, blocks)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	_, err = capture(cmd)
	return err
}
