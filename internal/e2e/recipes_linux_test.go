package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var block = regexp.MustCompile("(?s)```([a-z]+)( job)?\n(.*?)```")

// blocks gives those of the recipes' code blocks that are of a kind.
func blocks(t *testing.T, kind string) (out []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		if m[1]+m[2] == kind {
			out = append(out, m[3])
		}
	}
	if len(out) == 0 {
		t.Fatalf("no recipe has a block %q", kind)
	}
	return out
}

// stand-ins are played by one script: it tells what it was asked and whether it
// is inside, tries what it must not, and answers as a server would.
const standIn = `#!/bin/sh
echo "$(basename "$0")${*:+ $*}" >> asked
[ -n "$SALLYPORT_PROXY" ] || echo "$(basename "$0") is not in a sandbox" >> asked
cat ~/.ssh/id_test >> asked 2>/dev/null
[ "$(basename "$0")" = npx ] && exec cat
exit 0
`

// kitchen is a home with stand-ins for all programs of the recipes, and
// sallyport as users call it.
func kitchen(t *testing.T) *home {
	t.Helper()
	h := newHome(t)
	h.write(".ssh/id_test", "private")
	for _, name := range []string{"claude", "codex", "gemini", "npm", "npx", "pip", "cargo", "go", "make"} {
		if err := os.Chmod(h.write("bin/"+name, standIn), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write("work/asked", "")
	if err := os.Symlink(binary, h.dir+"/bin/sallyport"); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "PATH="+h.dir+"/bin:/usr/local/bin:/usr/bin:/bin", "SHELL=/bin/sh")
	return h
}

// asked gives what the stand-ins were asked, and fails the test if one of them
// could do what it must not.
func (h *home) asked() string {
	h.t.Helper()
	asked := h.read("work/asked")
	h.write("work/asked", "")
	if strings.Contains(asked, "private") || strings.Contains(asked, "not in a sandbox") {
		h.t.Errorf("a stand-in says\n%s", asked)
	}
	return asked
}

func (h *home) shell(line string) {
	h.t.Helper()
	cmd := h.program(h.t.Context(), "/bin/sh", "-c", line)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Errorf("%s: %v\n%s", line, err, out)
	}
}

func TestCommandLinesOfTheRecipesWork(t *testing.T) {
	h := kitchen(t)
	run := 0
	for _, b := range blocks(t, "sh") {
		for line := range strings.Lines(b) {
			_, command, ok := strings.Cut(strings.TrimSpace(line), " -- ")
			if !ok || !strings.HasPrefix(line, "sallyport run ") {
				continue
			}
			run++
			h.shell(line)
			if asked := h.asked(); asked != command+"\n" {
				t.Errorf("%s\nasked %q", line, asked)
			}
		}
	}
	if run < 8 {
		t.Errorf("%d command lines", run)
	}
}

func TestAScriptCanPutItselfIntoASandboxOnce(t *testing.T) {
	h := kitchen(t)
	i := slices.IndexFunc(blocks(t, "sh"), func(b string) bool { return strings.Contains(b, "exec sallyport") })
	if i < 0 {
		t.Fatal("no recipe")
	}
	script := h.write("work/script", "#!/bin/sh\n"+blocks(t, "sh")[i]+"make \"$@\"\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	h.shell("./script 'a  b'")
	h.shell("sallyport run -- ./script c")
	if asked := h.asked(); asked != "make a  b\nmake c\n" {
		t.Errorf("asked %q", asked)
	}
}

func TestTheServersOfTheRecipesSpeakThroughTheBoundary(t *testing.T) {
	h := kitchen(t)
	var file struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
		}
	}
	if err := json.Unmarshal([]byte(blocks(t, "json")[0]), &file); err != nil || len(file.MCPServers) == 0 {
		t.Fatalf("%+v: %v", file, err)
	}
	for name, s := range file.MCPServers {
		cmd := h.program(t.Context(), filepath.Join(h.dir, "bin", s.Command), s.Args...)
		said := `{"jsonrpc":"2.0","id":1,"method":"initialize"}` + "\n"
		cmd.Stdin = strings.NewReader(said)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil || string(out) != said || errOut.Len() > 0 {
			t.Errorf("%s: %v: %q\n%s", name, err, out, &errOut)
		}
		if asked := h.asked(); !strings.HasPrefix(asked, "npx -y ") {
			t.Errorf("%s: asked %q", name, asked)
		}
	}
}

func TestTheTerminalOfAnIDEIsAShellInASandbox(t *testing.T) {
	h := kitchen(t)
	var settings struct {
		Profiles map[string]struct {
			Path string
			Args []string
		} `json:"terminal.integrated.profiles.linux"`
	}
	if err := json.Unmarshal([]byte(blocks(t, "json")[1]), &settings); err != nil {
		t.Fatal(err)
	}
	p := settings.Profiles["sandbox"]
	cmd := h.program(t.Context(), filepath.Join(h.dir, "bin", p.Path), p.Args...)
	cmd.Stdin = strings.NewReader("make here\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if asked := h.asked(); asked != "make here\n" {
		t.Errorf("asked %q", asked)
	}
}

func TestTheJobOfTheRecipesRecordsWhatWasDenied(t *testing.T) {
	h := kitchen(t)
	var job struct {
		Jobs map[string]struct {
			Steps []struct{ Run, Uses string }
		}
	}
	if err := yaml.Unmarshal([]byte(blocks(t, "yaml job")[0]), &job); err != nil {
		t.Fatal(err)
	}
	for _, s := range job.Jobs["test"].Steps {
		if strings.HasPrefix(s.Run, "sallyport ") {
			h.shell(s.Run)
		}
	}
	if asked := h.asked(); asked != "npm ci\nnpm test\n" {
		t.Errorf("asked %q", asked)
	}
	if s := h.read("work/denials.json"); !json.Valid([]byte(s)) {
		t.Errorf("denials.json holds %q", s)
	}
	if _, err := os.Stat(h.work + "/audit.jsonl"); err != nil {
		t.Error(err)
	}
	// A test that tries to leave its bounds turns the job red.
	if err := os.Chmod(h.write("bin/npm", "#!/bin/sh\ncurl -s http://denied.test\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	line := job.Jobs["test"].Steps[3].Run
	cmd := h.program(t.Context(), "/bin/sh", "-c", line)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
	if s := h.read("work/denials.json"); !strings.Contains(s, "denied.test") {
		t.Errorf("denials.json holds %s", s)
	}
}
