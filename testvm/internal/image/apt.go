package image

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Environment variables that name a Debian mirror where apt's own configuration
// has none, such as on Ubuntu.
const (
	EnvMirror   = "SALLYPORT_TESTVM_MIRROR"
	EnvSecurity = "SALLYPORT_TESTVM_SECURITY_MIRROR"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// mirrors are the archives that packages come from.
type mirrors struct{ main, security string }

// findMirrors takes the archives that this machine's apt already uses.
func findMirrors(getenv func(string) string) (mirrors, error) {
	m := mirrors{getenv(EnvMirror), getenv(EnvSecurity)}
	if m.main != "" {
		return m, nil
	}
	const format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
	out, err := exec.Command("apt-get", "indextargets", "--format", format, "Created-By: Packages").Output()
	if err != nil {
		return m, fmt.Errorf("ask apt for its archives: %w", err)
	}
	m = parseMirrors(string(out))
	if m.main == "" {
		return m, fmt.Errorf("apt is configured with no Debian archive: set %s to one", EnvMirror)
	}
	return m, nil
}

// parseMirrors reads apt-get indextargets. Before the first update apt knows no
// origin and leaves the variable as it stands; other archives for Debian have
// their own components.
func parseMirrors(targets string) mirrors {
	var m mirrors
	for _, line := range strings.Split(targets, "\n") {
		f := strings.Fields(line)
		if len(f) != 4 || f[2] != "main" || f[3] != "Debian" && f[3] != "$(ORIGIN)" {
			continue
		}
		uri, err := url.Parse(f[0])
		if err != nil || !strings.HasPrefix(filepath.Base(uri.Path), "debian") {
			continue
		}
		if strings.HasSuffix(f[1], "-security") {
			m.security = orElse(m.security, f[0])
		} else {
			m.main = orElse(m.main, f[0])
		}
	}
	return m
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// sources is the list of a suite's archives, in apt's one-line format.
func (m mirrors) sources(suite string) string {
	line := func(uri, suite string) string {
		return fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, uri, suite)
	}
	list := line(m.main, suite)
	if m.security != "" && !strings.Contains(suite, "-") {
		list += line(m.security, suite+"-security")
	}
	return list
}

// apt is apt-get with a state of its own for one suite; the system's is not touched.
type apt struct {
	dir   string
	suite string
}

// openApt makes the private state of a suite.
func (c Cache) openApt(suite string) (apt, error) {
	a := apt{c.path("apt/" + suite), suite}
	m, err := findMirrors(os.Getenv)
	if err != nil {
		return a, err
	}
	for _, d := range []string{"lists/partial", "archives/partial", "parts"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return a, fmt.Errorf("make apt state: %w", err)
		}
	}
	err = errors.Join(
		c.replace("apt/"+suite+"/sources.list", []byte(m.sources(suite))),
		c.replace("apt/"+suite+"/status", nil))
	return a, err
}

// options keep apt away from the system's state.
func (a apt) options() []string {
	at := func(name string) string { return filepath.Join(a.dir, name) }
	return []string{
		"-o", "Dir::Etc::SourceList=" + at("sources.list"), "-o", "Dir::Etc::SourceParts=" + at("parts"),
		"-o", "Dir::State::Lists=" + at("lists"), "-o", "Dir::State::Status=" + at("status"),
		"-o", "Dir::Cache=" + a.dir, "-o", "Dir::Cache::Archives=" + at("archives"),
		"-o", "APT::Architecture=amd64", "-o", "APT::Architectures::=amd64", "-o", "APT::Sandbox::User=root",
		"-o", "APT::Get::List-Cleanup=0", "-o", "Acquire::Retries=3", "-q",
	}
}

// update brings the suite's lists up to date.
func (a apt) update() error {
	_, err := output("", "apt-get", append(a.options(), "-o", "APT::Update::Error-Mode=any", "update")...)
	return err
}

// names lists the suite's packages whose names begin with prefix.
func (a apt) names(prefix string) ([]string, error) {
	out, err := output("", "apt-cache", append(a.options(), "pkgnames", prefix)...)
	return strings.Fields(string(out)), err
}

// download puts packages into a folder.
func (a apt) download(dir string, packages ...string) error {
	_, err := output(dir, "apt-get", append(append(a.options(), "download"), packages...)...)
	return err
}

// output runs a program and gives what it printed; its complaints go into the error.
func output(dir, name string, args ...string) ([]byte, error) {
	var out, complaints bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", name, err, tail(out.String(), 20), tail(complaints.String(), 20))
	}
	return out.Bytes(), nil
}

// tail is the last n lines.
func tail(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "")
}
