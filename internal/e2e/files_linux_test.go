package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// snapshot describes everything below a directory but sallyport's own record:
// name, mode, owner, link target, content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "/.local") {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		content := ""
		switch d.Type() {
		case fs.ModeDir:
			st.Nlink = 0 // counts the record's directory
		case 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%x", sha256.Sum256(b))
		case fs.ModeSymlink:
			content, _ = os.Readlink(path)
		}
		lines = append(lines, fmt.Sprintf("%s %o %d %d %s", path, st.Mode, st.Uid, st.Nlink, content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// unchanged makes the test fail if what f does leaves a trace below $HOME.
func (h *home) unchanged(f func()) {
	h.t.Helper()
	before := snapshot(h.t, h.dir)
	f()
	if after := snapshot(h.t, h.dir); after != before {
		h.t.Errorf("the host has changed:\n%s\nwas:\n%s", after, before)
	}
}

func (h *home) symlink(target, rel string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, rel)
	if err := os.Symlink(target, path); err != nil {
		h.t.Fatal(err)
	}
	h.own(path)
	return path
}

func TestHiddenPathsAreNeitherReadNorWritten(t *testing.T) {
	h := newHome(t)
	key, netrc := h.write(".ssh/id_ed25519", "KEY"), h.write(".netrc", "machine x password y")
	history := h.write(".python_history", "x")
	h.write(".config/sallyport/policy.yaml", "# nothing but a comment\nfilesystem: {}\n")
	h.write(".aws/credentials", "AWS")
	ssh, aws := filepath.Dir(key), filepath.Join(h.dir, ".aws")
	link := h.symlink(key, "work/link")
	dirLink := h.symlink(ssh, "work/dirlink")
	h.attackOutside("read "+key+": ok", "read "+ssh+": ok", "read "+link+": ok")
	h.unchanged(func() {
		r := h.attack("read "+ssh+": EACCES", "read "+key+": EACCES", "stat "+key+": EACCES", "read "+netrc+": EACCES",
			"read "+history+": EACCES", "read "+aws+": EACCES", "read "+aws+"/credentials: EACCES",
			"read "+h.dir+"/.config/sallyport: EACCES", "read "+h.dir+"/.local/state/sallyport: EACCES",
			"read "+h.dir+"/.local/state/sallyport/audit: EACCES",
			"read /etc/shadow: EACCES",
			"read "+link+": EACCES", "read "+dirLink+": EACCES", "read "+dirLink+"/id_ed25519: EACCES",
			"read /proc/self/root"+key+": EACCES", "read /proc/self/cwd/../.ssh/id_ed25519: EACCES",
			"read /proc/1/root"+key+": EACCES", "read /proc/1/cwd: EACCES",
			"write "+key+": EACCES", "create "+ssh+"/authorized_keys: EACCES", "write "+netrc+": EACCES|EROFS",
			"unlink "+key+": EACCES", "chmod "+ssh+": EROFS", "rmdir "+ssh+": EBUSY|EROFS",
			"rename "+ssh+" "+h.dir+"/away: EBUSY|EROFS|EXDEV", "unlink "+netrc+": EBUSY|EROFS",
			"handle "+netrc+": EPERM|EOPNOTSUPP|EACCES")
		if strings.Contains(r.out+r.err, "KEY") {
			t.Error("the secret came out")
		}
	})
}

func TestTheFirstRunHidesItsRecordToo(t *testing.T) {
	h := newHome(t)
	h.usePolicy("filesystem:\n  allowWrite: ['~']\n")
	h.attack("read "+h.dir+"/.local/state/sallyport: EACCES", "create "+h.dir+"/.local/state/sallyport/x: EACCES",
		"create "+h.dir+"/.config/sallyport/policy.yaml: EACCES", "create "+h.dir+"/.srt-settings.json: EEXIST",
		"write "+h.dir+"/.srt-settings.json: EACCES", "rename "+h.dir+"/.config "+h.dir+"/x: EBUSY", "read "+h.policy+": EACCES",
		"write "+h.policy+": EACCES", "unlink "+h.policy+": EBUSY", "create "+h.dir+"/fine: ok")
	for _, gone := range []string{".config", ".srt-settings.json", ".cache"} {
		if _, err := os.Lstat(filepath.Join(h.dir, gone)); err == nil {
			t.Errorf("~/%s is left", gone)
		}
	}
	if h.read("fine") != "pwned" {
		t.Error("what is allowed did not arrive")
	}
}

func TestWritesStayInTheWriteRoots(t *testing.T) {
	h := newHome(t)
	other, rc := h.write("other/file", "mine"), h.write(".bashrc", "# mine")
	h.mkdir("other/dir")
	inside := h.write("work/file", "ours")
	link, dirLink := h.symlink("../other/file", "work/link"), h.symlink("../other", "work/dirlink")
	dangling := h.symlink("../other/new", "work/dangling")
	varTmp := filepath.Join(base, "var-tmp")
	h.unchanged(func() {
		h.attack("write "+other+": EROFS", "truncate "+other+": EROFS", "create "+h.dir+"/other/new: EROFS", "mkdir "+h.dir+"/other/new: EROFS",
			"unlink "+other+": EROFS", "rmdir "+h.dir+"/other/dir: EROFS", "chmod "+other+": EROFS", "utimes "+other+": EROFS",
			"rename "+other+" "+h.work+"/stolen: EXDEV|EROFS", "rename "+inside+" "+h.dir+"/other/new: EXDEV|EROFS",
			"exchange "+inside+" "+other+": EXDEV|EROFS", "symlink /x "+h.dir+"/other/new: EROFS",
			"write "+rc+": EROFS", "create "+h.dir+"/.profile: EROFS",
			"write "+link+": EROFS", "write "+dirLink+"/file: EROFS", "create "+dirLink+"/new: EROFS", "rewrite "+dangling+": ENOENT", "create "+dangling+": EEXIST",
			"link "+other+" "+h.work+"/hard: EXDEV", "linkfd "+other+" "+h.work+"/hard: EXDEV", "link "+inside+" "+h.dir+"/other/hard: EXDEV|EROFS",
			"write /proc/self/root"+other+": EROFS", "write /proc/self/cwd/../other/file: EROFS", "write /proc/1/root"+other+": EACCES",
			"create /usr/pwned: EROFS|EACCES", "create /etc/pwned: EROFS|EACCES", "write /etc/hosts: EROFS|EACCES", "create "+varTmp+": EROFS|EACCES",
			"rmdir "+h.work+": EBUSY|EROFS", "rename "+h.work+" "+h.dir+"/away: EBUSY|EROFS")
	})
	h.attack("write "+inside+": ok", "create "+h.work+"/new: ok", "rename "+h.work+"/new "+h.work+"/newer: ok", "link "+inside+" "+h.work+"/hard: ok",
		"mkdir "+h.work+"/d: ok", "unlink "+h.work+"/newer: ok")
	if got := h.read("work/file"); got != "ourspwned" {
		t.Errorf("what is allowed gave %q", got)
	}
}

func TestTmpRunAndDevAreTheSandboxesOwn(t *testing.T) {
	h := newHome(t)
	f, err := os.CreateTemp("/tmp", "sallyport-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer os.Remove(f.Name())
	name := f.Name() + "-inside"
	h.attack("read "+f.Name()+": ENOENT", "create "+name+": ok", "create /run/x: ok", "create /dev/shm/x: ok", "write /dev/null: ok",
		"stat /run/systemd: ENOENT", "stat /run/user: ENOENT", "stat /dev/kmsg: ENOENT", "stat /dev/vda: ENOENT",
		"write /proc/sys/kernel/hostname: EROFS|EACCES", "create /sys/x: EROFS|EACCES|EPERM")
	if _, err := os.Stat(name); err == nil {
		t.Error("a file made in /tmp inside is on the host")
		os.Remove(name)
	}
}

func TestAHostFIFOIsNotWrittenTo(t *testing.T) {
	h := newHome(t)
	h.mkdir("other")
	path := filepath.Join(h.dir, "other/fifo")
	if err := unix.Mkfifo(path, 0o622); err != nil {
		t.Fatal(err)
	}
	h.own(path)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	h.attackOutside("write " + path + ": ok")
	if n, _ := unix.Read(fd, buf); string(buf[:max(n, 0)]) != "pwned" {
		t.Fatal("the attack does not work outside, so this would prove nothing")
	}
	h.attack("write "+path+": EACCES", "write /proc/self/root"+path+": EACCES")
	if n, _ := unix.Read(fd, buf); n > 0 {
		t.Errorf("the host's reader got %q", buf[:n])
	}
	own := filepath.Join(h.work, "fifo")
	h.sh("mkfifo " + own + "; (cat " + own + " > got &); echo mine > " + own + "; sleep 0.1; [ \"$(cat got)\" = mine ]").ok()
}

func TestALeaseOnAHostFileIsRefused(t *testing.T) {
	h := newHome(t)
	f := h.write("other/file", "x")
	h.attackOutside("lease " + f + ": ok")
	h.attack("lease "+f+": EPERM", "lease "+h.write("work/f", "x")+": EPERM")
}
