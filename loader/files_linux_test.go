package loader

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
)

// fileTable compiles a policy's rules for a folder, which is cwd and write root.
func fileTable(t *testing.T, dir, text string) *FileTable {
	t.Helper()
	f, err := policy.Parse(policy.Source{Name: "/etc/p.yaml", Data: []byte("filesystem:\n  allowWrite: [.]\n" + text)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Env{Home: filepath.Join(dir, "home"), Cwd: dir}, f)
	if err != nil {
		t.Fatal(err)
	}
	return plan.CompileFiles(plan.KernelFiles(p.Files(), nil, filepath.Join(dir, "home")))
}

func init() { payloads["files"] = fileCalls }

// fileCalls makes the calls that it reads, one a line, and answers with their errors.
func fileCalls([]string) int {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		err := fileCall(words[0], words[1], words[len(words)-1])
		name := "ok"
		if errno, ok := err.(unix.Errno); ok {
			name = unix.ErrnoName(errno)
		} else if err != nil {
			name = err.Error()
		}
		fmt.Println(name)
	}
	return 0
}

func fileCall(call, a, b string) error {
	open := func(flags int) error {
		fd, err := unix.Open(a, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	switch call {
	case "create":
		return open(unix.O_WRONLY | unix.O_CREAT)
	case "read":
		return open(unix.O_RDONLY)
	case "write":
		return open(unix.O_WRONLY)
	case "mkdir":
		return unix.Mkdir(a, 0o700)
	case "fifo":
		return unix.Mknod(a, unix.S_IFIFO|0o600, 0)
	case "symlink":
		return unix.Symlink(b, a)
	case "link":
		return unix.Link(a, b)
	case "rename":
		return unix.Rename(a, b)
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	case "unlink":
		return unix.Unlink(a)
	case "rmdir":
		return unix.Rmdir(a)
	case "truncate":
		return unix.Truncate(a, 0)
	case "chmod":
		return unix.Chmod(a, 0o644)
	case "bind":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Bind(fd, &unix.SockaddrUnix{Name: a})
	}
	return fmt.Errorf("no call %s", call)
}

// fileBox is a sandbox with rules for a folder of its own.
type fileTestBox struct {
	*testBox
	t   *testing.T
	dir string
}

func newFileBox(t *testing.T, text string) *fileTestBox {
	t.Helper()
	needLSM(t)
	dir := scratchDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rules := everything
	rules.Files = fileTable(t, dir, text)
	return &fileTestBox{sharedWorld(t).add(rules), t, dir}
}

// call makes calls, whose names are of the box's folder, and gives the errors.
func (b *fileTestBox) call(calls ...string) []string {
	b.t.Helper()
	cmd := b.command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=files")
	cmd.Dir = b.dir
	cmd.Stdin = strings.NewReader(strings.Join(calls, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// refused wants calls refused, each recorded once, and nothing left of them.
func (b *fileTestBox) refused(op event.Operation, calls ...string) {
	b.t.Helper()
	before := len(b.records())
	tree := b.tree()
	got := b.call(calls...)
	for i, c := range calls {
		if got[i] != "EACCES" {
			b.t.Errorf("%s: %s", c, got[i])
		}
	}
	if now := b.tree(); now != tree {
		b.t.Errorf("left behind:\n%s\nwas\n%s", now, tree)
	}
	records := b.records()[before:]
	for i, r := range records {
		p := r.Event.Process
		if r.Event.Layer != event.LayerLSM || r.Event.Operation != op || r.Event.Errno != "EACCES" || r.Event.Count != 1 ||
			r.Event.Object.PathSource != "kernel" || p == nil || len(p.Argv) != 1 || p.Argv[0] != "/proc/self/exe" {
			b.t.Errorf("record %d: %+v\n%+v", i, r, p)
		}
		if i < len(calls) {
			words := strings.Fields(calls[i])
			if want := filepath.Join(b.dir, words[1]); string(r.Event.Object.Path) != want {
				b.t.Errorf("%s: path %s, want %s", calls[i], r.Event.Object.Path, want)
			}
		}
	}
	if len(records) != len(calls) {
		b.t.Errorf("%d records of %d calls: %+v", len(records), len(calls), records)
	}
}

// allowed wants calls to succeed and nothing recorded.
func (b *fileTestBox) allowed(calls ...string) {
	b.t.Helper()
	before := len(b.records())
	for i, got := range b.call(calls...) {
		if got != "ok" {
			b.t.Errorf("%s: %s", calls[i], got)
		}
	}
	if records := b.records()[before:]; len(records) > 0 {
		b.t.Errorf("recorded: %+v", records)
	}
}

func (b *fileTestBox) tree() string {
	var names []string
	filepath.Walk(b.dir, func(name string, fi os.FileInfo, err error) error {
		if err == nil {
			names = append(names, fmt.Sprintf("%s %s", name, fi.Mode()))
		}
		return nil
	})
	return strings.Join(names, "\n")
}

// host makes files, or folders with a slash at the end, from outside.
func (b *fileTestBox) host(names ...string) {
	b.t.Helper()
	for _, n := range names {
		full := filepath.Join(b.dir, n)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		if strings.HasSuffix(n, "/") {
			err = os.MkdirAll(full, 0o755)
		} else if err == nil {
			err = os.WriteFile(full, []byte("host"), 0o666)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestProtectedNamesCannotComeToBe(t *testing.T) {
	b := newFileBox(t, "")
	b.allowed("mkdir a", "mkdir a/b", "mkdir a/b/.git", "create a/b/.git/HEAD", "create plain", "mkdir d", "mkdir a/.claude")
	b.refused(event.FileCreate, "create .bashrc", "mkdir a/b/.git/hooks", "create a/b/.git/config", "create a/b/.git/CONFIG", "fifo .envrc",
		"bind .mcp.json", "symlink .gitconfig plain", "symlink a/.git d", "create d/.git", "mkdir .vscode", "symlink .claude d", "create a/.claude/settings.local.json")
	b.refused(event.FileLink, "link plain .zshrc", "link plain a/b/.git/config")
	b.refused(event.FileRename, "rename plain .profile", "rename d a/b/.git/hooks", "rename d .git", "exchange d a/b/.git", "rename a/b/.git a/b/x", "rename a/.claude d")
	b.refused(event.FileDelete, "rmdir a/.claude")
	b.allowed("rename a z", "rename plain z/plain", "unlink z/plain", "rmdir d")
}

func TestWhatAppearsLaterIsUnderTheRulesOfItsName(t *testing.T) {
	b := newFileBox(t, "  denyRead: ['**/*.pem', late, 'cfg/*']\n  allowRead: ['cfg/*.txt']\n  denyWrite: ['gen/*.go', absent/deep/file]\n")
	b.host("k/a.pem", "late", "cfg/x", "cfg/x.txt", "gen/a.go", "gen/a.c", ".bashrc", "absent/")
	b.refused(event.FileRead, "read k/a.pem", "read late", "read cfg/x")
	b.refused(event.FileWrite, "write k/a.pem", "write gen/a.go", "write .bashrc", "truncate gen/a.go")
	b.refused(event.FileMeta, "chmod gen/a.go", "chmod .bashrc")
	b.refused(event.FileLink, "link gen/a.go other", "link late other", "link .bashrc other")
	b.refused(event.FileRename, "rename gen/a.go other", "rename gen other", "rename absent other", "rename gen/a.c gen/b.go")
	b.refused(event.FileDelete, "unlink .bashrc", "unlink gen/a.go", "rmdir absent")
	b.refused(event.FileCreate, "create n.pem", "create gen/n.go")
	b.allowed("read cfg/x.txt", "read .bashrc", "write gen/a.c", "mkdir absent/deep", "read gen/a.go")
	b.refused(event.FileCreate, "create absent/deep/file", "mkdir absent/deep/file")
}

func TestAFileThatTheHostReplacesStaysUnderItsRules(t *testing.T) {
	b := newFileBox(t, "  denyWrite: [kept]\n  denyRead: [secret]\n")
	b.host("kept", "secret")
	for range 3 {
		for _, name := range []string{"kept", "secret"} { // an atomic save
			b.host(name + ".new")
			if err := os.Rename(filepath.Join(b.dir, name+".new"), filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.call("write kept", "read secret", "unlink kept", "read kept"); !slices.Equal(got, []string{"EACCES", "EACCES", "EACCES", "ok"}) {
			t.Errorf("after a save: %v", got)
		}
	}
}

func TestNoRepositoryIsPlanted(t *testing.T) {
	b := newFileBox(t, "")
	b.allowed("mkdir r", "create r/HEAD", "mkdir r/objects", "mkdir x", "mkdir q", "mkdir q/objects", "create q/notHEAD")
	b.refused(event.FileCreate, "mkdir r/refs", "symlink r/refs x", "create r/refs")
	b.refused(event.FileRename, "rename x r/refs")
	b.allowed("unlink r/HEAD", "mkdir r/refs", "rename x q/refs")
	b.refused(event.FileCreate, "create r/HEAD")
	b.refused(event.FileRename, "rename q/notHEAD q/HEAD")
	b.refused(event.FileLink, "link q/notHEAD q/HEAD")
	for _, r := range b.records()[len(b.records())-3:] {
		if r.Event.Rule != rulePlant {
			t.Errorf("rule %q", r.Event.Rule)
		}
	}
	b.allowed("mkdir w", "mkdir w/.git", "create w/.git/HEAD", "mkdir w/.git/objects", "mkdir w/.git/refs") // git init
}

func TestAPathThatIsTooDeepToFollowIsRefused(t *testing.T) {
	b := newFileBox(t, "")
	deep := strings.Repeat("d/", 300)
	b.host(deep)
	b.allowed("create " + strings.Repeat("d/", 200) + "x")
	if got := b.call("create " + deep + "x"); got[0] != "EACCES" {
		t.Errorf("beyond what can be followed: %s", got[0])
	}
	if last := b.records(); len(last) != 1 || last[0].Event.Rule != ruleLost {
		t.Errorf("%+v", last)
	}
}

func TestOtherSandboxesHaveTheirOwnRules(t *testing.T) {
	a, other := newFileBox(t, "  denyWrite: [x]\n"), newFileBox(t, "  denyWrite: [y]\n")
	other.dir = a.dir
	if got := a.call("create x", "create y"); !slices.Equal(got, []string{"EACCES", "ok"}) {
		t.Errorf("%v", got)
	}
	if got := other.call("create x", "write y"); !slices.Equal(got, []string{"ok", "ok"}) {
		t.Errorf("%v", got) // its rules are for another folder
	}
	a.w.l.RemoveSandbox(a.Info.ID)
	var keys int
	it := a.w.l.maps["file_names"].Iterate()
	var k bpf.LSMFileKey
	var v bpf.LSMFileValue
	for it.Next(&k, &v) {
		if k.Sandbox == a.Info.ID {
			keys++
		}
	}
	if keys > 0 || it.Err() != nil {
		t.Errorf("%d entries are left, %v", keys, it.Err())
	}
}
