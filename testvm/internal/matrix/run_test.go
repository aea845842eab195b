package matrix

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// images has every kernel but 5.10.
type images struct{}

func (images) Kernel(k machine.Kernel) (image.Kernel, error) {
	if k.Name == machine.Linux510.Name {
		return image.Kernel{}, errors.New("the archive has it no more")
	}
	return image.Kernel{Release: k.Name + ".0"}, nil
}
func (images) Root() (string, error) { return "/root.ext4", nil }

// program puts a script in a program's place.
func program(t *testing.T, name, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// qemu reports a job that passes on 6.1 and says nothing elsewhere.
const (
	qemu    = "case \"$*\" in *testvm.machine=6.1-*) ;; *) exit 0 ;; esac\n" + reports
	reports = `echo '{"kind":"boot","release":"6.1.0"}'; echo '{"kind":"start"}'; echo '{"kind":"end"}'; echo '{"kind":"done"}'`
)

func TestRunGoesOnAfterFailures(t *testing.T) {
	program(t, "qemu-system-x86_64", qemu)
	t.Setenv(vm.EnvAccel, "tcg")
	machines := []machine.Machine{{Kernel: machine.Linux618, Init: machine.Plain}, {Kernel: machine.Linux61, Init: machine.Systemd}}
	steps := []report.Step{{Name: "one", Argv: []string{"true"}, Deadline: time.Minute}}
	var out strings.Builder
	rows, err := Run(t.Context(), vm.Runner{Images: images{}, Dir: t.TempDir()}, Plan{Machines: machines, AtOnce: 2, Steps: steps}, &out)
	if err != nil || len(rows) != 2 || Failed(rows) != 1 {
		t.Fatalf("rows %+v, %v", rows, err)
	}
	if !strings.Contains(out.String(), "FAIL 6.18-plain") || !strings.Contains(out.String(), "ok   6.1-systemd") {
		t.Errorf("printed %q", out.String())
	}
}

func TestAMachineThatNeverBeginsIsStartedOnceMore(t *testing.T) {
	tried := filepath.Join(t.TempDir(), "tried")
	t.Setenv("TESTVM_TRIED", tried)
	t.Setenv(vm.EnvAccel, "tcg")
	m := []machine.Machine{{Kernel: machine.Linux61, Init: machine.Plain}}
	steps := []report.Step{{Name: "one", Argv: []string{"true"}, Deadline: time.Minute}}
	for name, tt := range map[string]struct {
		script        string
		starts, fails int
	}{
		"it begins then":    {`[ -s "$TESTVM_TRIED" ] && ` + "{ echo >>\"$TESTVM_TRIED\"; " + reports + "; } || echo >>\"$TESTVM_TRIED\"", 2, 0},
		"it never does":     {`echo >>"$TESTVM_TRIED"`, 2, 1},
		"it ends too early": {`echo >>"$TESTVM_TRIED"; echo '{"kind":"boot","release":"6.1.0"}'`, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(tried, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			program(t, "qemu-system-x86_64", tt.script)
			rows, err := Run(t.Context(), vm.Runner{Images: images{}, Dir: t.TempDir()}, Plan{Machines: m, Steps: steps}, &strings.Builder{})
			starts, _ := os.ReadFile(tried)
			if err != nil || Failed(rows) != tt.fails || len(starts) != tt.starts || (rows[0].Again != "") != (tt.starts == 2) {
				t.Errorf("%d starts, rows %+v, %v", len(starts), rows, err)
			}
		})
	}
}

func TestWhatIsKeptIsSaidAndNothingIsRun(t *testing.T) {
	program(t, "qemu-system-x86_64", "echo started >&2; exit 1")
	kept := Kept{Dir: t.TempDir(), Digest: "one"}
	there, missing := machine.Machine{Kernel: machine.Linux61, Init: machine.Plain}, machine.Machine{Kernel: machine.Linux612, Init: machine.Plain}
	if err := kept.keep(there, Row{Machine: there.String(), Release: "6.1.0"}); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	rows, err := Run(t.Context(), vm.Runner{Images: images{}, Dir: t.TempDir()},
		Plan{Machines: []machine.Machine{there, missing}, Kept: kept, KeptOnly: true}, &out)
	if err != nil || len(rows) != 2 || rows[0].NotRun || !rows[1].NotRun || Failed(rows) != 1 || !strings.Contains(out.String(), "none 6.12-plain") {
		t.Errorf("rows %+v, %v\n%s", rows, err, out.String())
	}
}

func TestRunFailsWithoutAKernel(t *testing.T) {
	program(t, "qemu-system-x86_64", qemu)
	machines := []machine.Machine{{Kernel: machine.Linux510, Init: machine.Plain}, {Kernel: machine.Linux61, Init: machine.Plain}}
	_, err := Run(t.Context(), vm.Runner{Images: images{}, Dir: t.TempDir()}, Plan{Machines: machines}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "the archive has it no more") {
		t.Errorf("Run = %v", err)
	}
}

// TestVagrantRunsApartWithItsEnvironment: unshare is where Vagrant and libvirtd start.
func TestVagrantRunsApartWithItsEnvironment(t *testing.T) {
	program(t, "unshare", `for a; do last=$a; done
[ "$1 $2 $3" = "-mnp --fork --kill-child" ] || exit 9
echo "box of $VAGRANT_HOME, tests of $SALLYPORT_TESTVM_PAYLOAD, file in $VAGRANT_CWD" >"$last"; echo said; exit 3`)
	b := machine.Boxes[0]
	state := t.TempDir()
	v := Vagrant{Folder: t.TempDir()}
	var said strings.Builder
	err := v.start(t.Context(), b, report.Job{}, &said, state, "VAGRANT_HOME=/home", EnvPayload+"=/payload")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || said.String() != "said\n" {
		t.Errorf("start = %v, said %q", err, said.String())
	}
	got, _ := os.ReadFile(filepath.Join(state, "report"))
	if want := "box of /home, tests of /payload, file in " + v.Folder + "\n"; string(got) != want {
		t.Errorf("report %q, want %q", got, want)
	}
}

func TestProgressIsTakenOutOfWhatVagrantSaid(t *testing.T) {
	const said = "Uploading...\n\r\x1b[KProgress: 0%\r\x1b[KProgress: 100%==> up\n"
	if got := progress.ReplaceAllString(said, ""); got != "Uploading...\n==> up\n" {
		t.Errorf("left %q", got)
	}
}
