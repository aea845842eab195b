package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/matrix"
	"github.com/sallyport/sallyport/testvm/internal/report"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// testFlags are those of every command that runs tests.
type testFlags struct {
	*flag.FlagSet
	packages string
	tests    vm.Selection
	atOnce   int
	logs     string
	keep     string
	doc      string
	bypasses string
	host     string
	ci       bool
	keptOnly bool
}

func newFlags(name string) *testFlags {
	f := &testFlags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.StringVar(&f.packages, "packages", "./testvm/selftest", "packages whose tests are run, separated by spaces")
	f.DurationVar(&f.tests.Deadline, "deadline", 5*time.Minute, "how long the tests of one package may take")
	f.BoolVar(&f.tests.Short, "short", false, "leave out what tests leave out with -short")
	f.BoolVar(&f.tests.All, "all", false, "run those tests too that a kernel has no say in, as both users everywhere")
	// A machine waits for a third of its time.
	f.IntVar(&f.atOnce, "at-once", runtime.NumCPU()+1, "how many machines run side by side")
	f.StringVar(&f.keep, "keep", "", "folder of what came of machines: those that passed with the same programs are not run again")
	f.StringVar(&f.logs, "logs", "", "folder that takes all that the steps print, as they do")
	return f
}

func (f *testFlags) parse(args []string) error {
	if err := f.Parse(args); err != nil {
		return usageError{err}
	}
	f.tests.Packages = strings.Fields(f.packages)
	return nil
}

func cache() (image.Cache, error) {
	dir, err := image.DefaultDir(os.Getenv, os.Geteuid())
	if err != nil {
		return image.Cache{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return image.Cache{}, fmt.Errorf("make cache: %w", err)
	}
	return image.Cache{Dir: dir, Log: logf}, nil
}

// workFolder opens the cache and makes a folder in it that the caller removes.
func workFolder() (image.Cache, string, error) {
	c, err := cache()
	if err != nil {
		return c, "", err
	}
	dir, err := os.MkdirTemp(c.Dir, "work-")
	if err != nil {
		return c, "", fmt.Errorf("make folder: %w", err)
	}
	return c, dir, nil
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, "testvm: "+format+"\n", args...) }

// list prints the names of the matrix's machines.
func list(context.Context, []string) error {
	for _, m := range machine.Matrix() {
		fmt.Println(m)
	}
	return nil
}

// unusedFor is how long the cache keeps what nobody needs.
const unusedFor = 30 * 24 * time.Hour

// fetch resolves kernels anew and builds what is missing. A kernel that cannot be
// reached but was built before is kept.
func fetch(_ context.Context, args []string) error {
	f := flag.NewFlagSet("fetch", flag.ContinueOnError)
	boxes := f.Bool("boxes", false, "build the boxes for Vagrant, and what packages are installed on, too")
	if err := f.Parse(args); err != nil {
		return usageError{err}
	}
	machines, err := named(f.Args(), machine.Matrix())
	if err != nil {
		return err
	}
	c, err := cache()
	if err != nil {
		return err
	}
	if err := fetchKernels(c, machines); err != nil {
		return err
	}
	root, err := c.Root()
	if err != nil {
		return err
	}
	fmt.Printf("%-8s %s\n", "root", filepath.Base(root))
	if *boxes {
		if err := fetchBoxes(c); err != nil {
			return err
		}
	}
	return c.Prune(unusedFor)
}

// fetchBoxes builds every box that can be built.
func fetchBoxes(c image.Cache) error {
	for _, b := range machine.Boxes {
		if !b.Built() {
			continue
		}
		home, err := c.BoxHome(b)
		if err != nil {
			return err
		}
		fmt.Printf("%-8s %s\n", b.Name, filepath.Base(home))
	}
	return fetchFresh(c)
}

func fetchKernels(c image.Cache, machines []machine.Machine) error {
	for _, kernel := range machine.KernelsOf(machines) {
		k, err := c.FetchKernel(kernel)
		if err != nil {
			old, oldErr := c.Kernel(kernel)
			if oldErr != nil {
				return err
			}
			logf("kernel %s stays as it was: %v", kernel.Name, err)
			k = old
		}
		fmt.Printf("%-8s %s\n", kernel.Name, k.Package)
	}
	return nil
}

// named reads machine names; none at all stands for fallback.
func named(names []string, fallback []machine.Machine) ([]machine.Machine, error) {
	if len(names) == 0 {
		return fallback, nil
	}
	var machines []machine.Machine
	for _, name := range names {
		m, err := machine.Parse(name)
		if err != nil {
			return nil, usageError{err}
		}
		machines = append(machines, m)
	}
	return machines, nil
}

// test runs the tests on the machines that are named.
func test(ctx context.Context, args []string) error {
	f := newFlags("test")
	if err := f.parse(args); err != nil {
		return err
	}
	machines, err := named(f.Args(), nil)
	if err != nil {
		return err
	}
	if len(machines) == 0 {
		return usageError{fmt.Errorf("test: name a machine")}
	}
	return runTests(ctx, f, machines)
}

// runMatrix runs the tests on every machine, or on the few of every change.
func runMatrix(ctx context.Context, args []string) error {
	f := newFlags("matrix")
	f.BoolVar(&f.ci, "ci", false, "only the machines of every change")
	f.StringVar(&f.doc, "doc", "", "write what was found to this document")
	f.BoolVar(&f.keptOnly, "kept-only", false, "run nothing: say what is kept (-keep), and what is missing")
	if err := f.parse(args); err != nil {
		return err
	}
	machines := machine.Matrix()
	if f.ci {
		machines = machine.CI()
	}
	return runTests(ctx, f, machines)
}

func runTests(ctx context.Context, f *testFlags, machines []machine.Machine) error {
	begun := time.Now()
	for _, folder := range []string{f.logs, f.keep} {
		if folder == "" {
			continue
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	c, dir, err := workFolder()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	prepared := make(chan error, 1)
	go func() { prepared <- c.Prepare(machine.KernelsOf(machines)) }()
	built, err := f.buildPayload(ctx, filepath.Join(dir, "tree"))
	if err := errors.Join(err, <-prepared); err != nil {
		return err
	}
	plan := matrix.Plan{Machines: machines, AtOnce: f.atOnce, Payload: filepath.Join(dir, "payload.ext4"), Steps: built.Steps}
	digest, err := matrix.Digest(built.Dir, built.Steps)
	if err != nil {
		return err
	}
	plan.Kept, plan.KeptOnly = matrix.Kept{Dir: f.keep, Digest: digest}, f.keptOnly
	if err := built.Image(ctx, plan.Payload); err != nil {
		return fmt.Errorf("make payload image: %w", err)
	}
	logf("ready after %.0fs", time.Since(begun).Seconds())
	rows, err := matrix.Run(ctx, vm.Runner{Images: c, Dir: c.Dir, Observe: f.observe}, plan, os.Stdout)
	if err != nil {
		return err
	}
	fmt.Printf("%d machines in %.0fs, %d failed\n", len(rows), time.Since(begun).Seconds(), matrix.Failed(rows))
	if f.doc != "" {
		if err := os.WriteFile(f.doc, matrix.Document(rows), 0o644); err != nil {
			return fmt.Errorf("write document: %w", err)
		}
	}
	if f.bypasses != "" {
		if err := f.writeBypasses(rows); err != nil {
			return err
		}
	}
	if matrix.Failed(rows) > 0 {
		return errFailed
	}
	return nil
}

// observe says which step a machine is at, to one who waits, and logs.
func (f *testFlags) observe(job report.Job, rec report.Record) {
	switch rec.Kind {
	case report.KindStart:
		logf("%s: %s (processor %.1fs)", job.Machine, job.Steps[rec.Step].Name, rec.CPU.Seconds())
	case report.KindOutput:
		step := job.Machine + " " + job.Steps[rec.Step].Name
		if err := errors.Join(f.log(step, rec.Output), f.logCost(step, rec)); err != nil {
			logf("%v", err)
		}
	}
}

// ended is where a test that is no subtest has ended.
var ended = regexp.MustCompile(`(?m)^\x16--- (PASS|FAIL|SKIP): (Test\S+)`)

// logCost notes how much of a processor the machine had used when tests had ended:
// the differences are what they cost.
func (f *testFlags) logCost(step string, rec report.Record) error {
	var notes []byte
	for _, m := range ended.FindAllSubmatch(rec.Output, -1) {
		notes = fmt.Appendf(notes, "%.1f %s %s\n", rec.CPU.Seconds(), m[1], m[2])
	}
	if notes == nil {
		return nil
	}
	return f.log(step+" cost", notes)
}

// log adds to a step's file in the folder of logs, if there is one.
func (f *testFlags) log(name string, data []byte) error {
	if f.logs == "" {
		return nil
	}
	path := filepath.Join(f.logs, strings.NewReplacer("/", "-", " ", "-").Replace(name)+".log")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

// runOne runs one program in one machine and shows what it prints as it does.
func runOne(ctx context.Context, args []string) error {
	f := newFlags("run")
	user := f.Bool("user", false, "run it as an ordinary user")
	var added []string
	f.Func("add", "a file that the machine finds in /payload/add; repeatable", func(path string) error {
		added = append(added, path)
		return nil
	})
	if err := f.parse(args); err != nil {
		return err
	}
	if f.NArg() < 2 {
		return usageError{fmt.Errorf("run: want a machine and a program")}
	}
	m, err := machine.Parse(f.Arg(0))
	if err != nil {
		return usageError{err}
	}
	argv := f.Args()[1:]
	if argv[0] == "--" {
		argv = argv[1:]
	}
	c, dir, err := workFolder()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	alone := vm.Payload{Dir: filepath.Join(dir, "tree")}
	disk := filepath.Join(dir, "payload.ext4")
	err = alone.AddHarness(ctx)
	for _, path := range added {
		err = errors.Join(err, alone.AddFile("add/"+filepath.Base(path), path))
	}
	if err := errors.Join(err, alone.Image(ctx, disk)); err != nil {
		return err
	}
	r := vm.Runner{Images: c, Dir: c.Dir, Observe: func(_ report.Job, rec report.Record) {
		if rec.Kind == report.KindStart {
			logf("booted (processor %.1fs)", rec.CPU.Seconds())
		}
		os.Stdout.Write(rec.Output)
	}}
	result, err := r.Run(ctx, m, disk, []report.Step{{Name: argv[0], Argv: argv, User: *user, Deadline: f.tests.Deadline}})
	if err != nil {
		return err
	}
	logf("%.1fs, of a processor %.1fs", result.Took.Seconds(), result.CPU.Seconds())
	for _, p := range result.Problems() {
		fmt.Fprintf(os.Stderr, "testvm: %s\n", p)
		if p.Step == "" {
			os.Stderr.Write(p.Output)
		}
	}
	if len(result.Problems()) > 0 {
		return errFailed
	}
	return nil
}
