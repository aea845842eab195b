// Command dist makes what a release consists of: static binaries for every
// system, archives, Debian and RPM packages, bills of materials and checksums.
// The same sources, toolchain and version give the same bytes anywhere.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	var r release
	flag.StringVar(&r.version, "version", "", "what 'sallyport version' says; default: what git says")
	flag.StringVar(&r.out, "out", "dist", "make the release in this `directory`, which is emptied first")
	flag.StringVar(&r.nfpm, "nfpm", "", "make packages with this `program`, nfpm; without it there are none")
	flag.Parse()
	if err := r.make(); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// target is a system that binaries are made for.
type target struct{ os, arch string }

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

// programs are what a release consists of.
var programs = []string{"sallyport", "sallyport-agent"}

type release struct {
	version, out, nfpm string

	date time.Time // of the commit: nothing in a release has another
	work string    // what is made on the way
}

func (r *release) make() (err error) {
	if err := r.describe(); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "sallyport-dist-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if err := r.manual(); err != nil {
		return err
	}
	for _, t := range targets {
		if err := r.target(t); err != nil {
			return fmt.Errorf("make %s/%s: %w", t.os, t.arch, err)
		}
	}
	return r.checksums()
}

// describe asks git for what was not said.
func (r *release) describe() error {
	if r.version == "" {
		out, err := output("git", "describe", "--tags", "--always", "--dirty")
		if err != nil {
			return err
		}
		r.version = out
	}
	out, err := output("git", "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		return fmt.Errorf("read date of the commit: %w", err)
	}
	r.date = time.Unix(seconds, 0).UTC()
	return nil
}

func (r *release) target(t target) error {
	name := fmt.Sprintf("sallyport_%s_%s_%s", r.version, t.os, t.arch)
	dir := filepath.Join(r.work, t.os+"_"+t.arch)
	var binaries []string
	for _, program := range programs {
		binary := filepath.Join(dir, program)
		if err := r.build(t, binary, "./cmd/"+program); err != nil {
			return err
		}
		binaries = append(binaries, binary)
	}
	if err := writeBill(binaries, r.version, filepath.Join(r.out, name+".cdx.json")); err != nil {
		return err
	}
	files, err := r.files(t, binaries)
	if err != nil {
		return err
	}
	if err := writeArchive(filepath.Join(r.out, name+".tar.gz"), name, files, r.date); err != nil {
		return err
	}
	if t.os != "linux" || r.nfpm == "" {
		return nil
	}
	return r.packages(t, binaries)
}

// build compiles a package statically; -buildid= and -trimpath leave nothing of
// the place where it was done.
func (r *release) build(t target, to, pkg string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=" + r.version, "-o", to}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	return run(cmd)
}

// manual makes the pages and completions, by a build for this machine.
func (r *release) manual() error {
	host, err := output("go", "env", "GOHOSTOS", "GOHOSTARCH")
	if err != nil {
		return err
	}
	system, arch, _ := strings.Cut(host, "\n")
	for _, program := range programs {
		tool := filepath.Join(r.work, "man-tool")
		if err := r.build(target{system, arch}, tool, "./cmd/"+program, "-tags", "man"); err != nil {
			return err
		}
		if err := run(exec.Command(tool, "man", r.work, strconv.FormatInt(r.date.Unix(), 10))); err != nil {
			return err
		}
	}
	return nil
}

func run(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args[:min(2, len(cmd.Args))], " "), err)
	}
	return nil
}

// output gives what a program prints, without the last line's end.
func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
