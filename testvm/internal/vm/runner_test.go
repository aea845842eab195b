package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// ready are images that a fake qemu never reads.
type ready struct{}

func (ready) Kernel(machine.Kernel) (image.Kernel, error) {
	return image.Kernel{Release: "6.1.0", Image: "/vmlinuz", Initrd: "/initrd", Modules: "/modules.ext4"}, nil
}
func (ready) Root() (string, error) { return "/root.ext4", nil }

func TestRunnerRunsAMachineToItsEnd(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "args")
	t.Setenv("TESTVM_ARGS", seen)
	t.Setenv(EnvAccel, "tcg")
	fakeQEMU(t, `for a; do echo "$a"; done >"$TESTVM_ARGS"
for a; do case $a in file:*) echo "hello from the console" >"${a#file:}" ;; *readonly=on,file=*/job) cp "${a##*file=}" "$TESTVM_ARGS.job" ;; esac; done
`+goodReport)
	dir := t.TempDir()
	kinds := []string{}
	r := Runner{Images: ready{}, Dir: dir, Observe: func(_ report.Job, rec report.Record) { kinds = append(kinds, rec.Kind) }}
	m := machine.Machine{Kernel: machine.Linux61, Init: machine.Plain}
	result, err := r.Run(t.Context(), m, "/payload.ext4", []report.Step{{Name: "one", Argv: []string{"true"}, Deadline: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	if p := result.Problems(); len(p) != 0 {
		t.Errorf("problems %v", p)
	}
	if string(result.Console) != "hello from the console\n" || result.Took <= 0 || result.Accel != TCG {
		t.Errorf("result %+v", result)
	}
	if !slices.Equal(kinds, []string{report.KindBoot, report.KindStart, report.KindEnd, report.KindDone}) {
		t.Errorf("observed %q", kinds)
	}
	args, _ := os.ReadFile(seen)
	if !strings.Contains(string(args), "snapshot=on,file=/payload.ext4\n") {
		t.Errorf("qemu was started with %s", args)
	}
	if job, _ := os.ReadFile(seen + ".job"); !strings.Contains(string(job), `"machine":"6.1-plain"`) {
		t.Errorf("the job was %s", job)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "run-*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestAccelIsChosenByTrying(t *testing.T) {
	if _, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		t.Skipf("there is nothing to try: %v", err)
	}
	t.Setenv(EnvAccel, "")
	runs := `for a; do case $a in file:*) echo "` + trialSaid + `" >"${a#file:}" ;; esac; done`
	for name, tt := range map[string]struct {
		script string
		want   Accel
	}{
		"a kernel that runs":     {runs, KVM},
		"a kernel that does not": {`echo "KVM internal error. Suberror: 1" >&2; exit 1`, TCG},
	} {
		t.Run(name, func(t *testing.T) {
			fakeQEMU(t, tt.script)
			dir := t.TempDir()
			got, err := ChooseAccel(t.Context(), dir, image.Kernel{})
			if err != nil || got != tt.want {
				t.Fatalf("ChooseAccel = %q, %v; want %q", got, err, tt.want)
			}
			fakeQEMU(t, "echo tried again >&2; exit 1")
			if again, err := ChooseAccel(t.Context(), dir, image.Kernel{}); err != nil || again != tt.want {
				t.Errorf("asked again: %q, %v", again, err)
			}
		})
	}
}

func TestBuildPayload(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the project")
	}
	p, err := BuildPayload(t.Context(), t.TempDir(), Selection{Packages: []string{"github.com/sallyport/sallyport/testvm/selftest"}, Deadline: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/testvm", "bin/sallyport", "bin/sallyport-agent", "src/testvm/selftest/package.test", "src/testvm/selftest/testdata/here", "src/go.mod"} {
		if _, err := os.Stat(filepath.Join(p.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(p.Dir, "src/.git")); err == nil {
		t.Error("the payload holds the repository's history")
	}
	if len(p.Steps) != 4 || p.Steps[2].Name != "testvm/selftest as root" || p.Steps[3].Name != "testvm/selftest as user" {
		t.Errorf("steps %+v", p.Steps)
	}
}
