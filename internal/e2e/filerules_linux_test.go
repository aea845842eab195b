package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the policy's file rules say, in a sandbox that is really there: each line
// is an attempt and its result. docs/policy.md lists which test holds which rule.

func TestPatternsHoldInAllFourLists(t *testing.T) {
	h := newHome(t)
	for _, name := range []string{"logs/a.log", "logs/b.txt", "logs/deep/x/ok1.dat", "logs/deep/x/ok10.dat", "logs/c9.bin", "logs/cx.bin",
		"notes/one", "notes/public", "notes/sub/k.pem", "notes/sub/k.txt", "keys/a.pem", "keys/x/y/b.pem", "keys/x/y/b.pub", "starred",
		"we[i]rd", "weird", "work/a.lock", "work/sub/deep/b.lock", "work/m.c", "work/m.h", "work/m.o", "work/sub/m.c"} {
		h.write(name, "x")
	}
	first := "/*" + strings.TrimPrefix(h.dir, "/"+strings.Split(h.dir, "/")[1]) + "/starred" // a wildcard comes first
	h.usePolicy(fmt.Sprintf(`
filesystem:
  allowWrite: [., "~/logs/*.txt", "~/logs/**/ok?.dat", "~/logs/c[0-9].bin"]
  denyWrite: ["**/*.lock", "*.[ch]"]
  denyRead: ["~/notes/*", "~/keys/**/*.pem", %q, {path: "~/we[i]rd", literal: true}]
  allowRead: ["~/notes/pub*", "~/notes/**/*.txt"]
`, first))
	d, w := h.dir, h.work
	h.attack("write "+d+"/logs/b.txt: ok", "write "+d+"/logs/a.log: EROFS", "write "+d+"/logs/deep/x/ok1.dat: ok", "write "+d+"/logs/deep/x/ok10.dat: EROFS",
		"write "+d+"/logs/c9.bin: ok", "write "+d+"/logs/cx.bin: EROFS", "create "+d+"/logs/new.txt: EROFS", // expanded at the start
		"write "+w+"/a.lock: EROFS", "write "+w+"/sub/deep/b.lock: EROFS", "write "+w+"/m.c: EROFS", "write "+w+"/m.h: EROFS", "write "+w+"/m.o: ok", "write "+w+"/sub/m.c: ok",
		"unlink "+w+"/m.c: EBUSY", "rename "+w+"/m.o "+w+"/m.c: EBUSY", "rename "+w+"/sub "+w+"/x: EBUSY",
		"read "+d+"/notes/one: EACCES", "read "+d+"/notes/public: ok", "read "+d+"/notes/sub/k.txt: ok", "read "+d+"/notes/sub/k.pem: EACCES",
		"read "+d+"/keys/a.pem: EACCES", "read "+d+"/keys/x/y/b.pem: EACCES", "read "+d+"/keys/x/y/b.pub: ok",
		"read "+d+"/starred: EACCES", "read "+d+"/we[i]rd: EACCES", "read "+d+"/weird: ok")
}

func TestTheMoreSpecificReadRuleWinsAndAnyWriteDenial(t *testing.T) {
	h := newHome(t)
	for _, name := range []string{"a/x", "a/open/x", "a/open/shut/x", "a/open/shut/again/x", "tie/x", "w/x", "w/no/x", "w/no/yes/x", "above/in/x"} {
		h.write(name, "x")
	}
	h.usePolicy(`
filesystem:
  denyRead: [~/a, ~/a/open/shut, ~/tie]
  allowRead: [~/a/open, ~/a/open/shut/again, ~/tie]
  allowWrite: [., ~/w, ~/w/no/yes, ~/above/in]
  denyWrite: [~/w/no, ~/above]
`)
	d := h.dir
	h.attack("read "+d+"/a/x: EACCES", "read "+d+"/a: EACCES", "read "+d+"/a/open/x: ok", "read "+d+"/a/open/shut/x: EACCES", "read "+d+"/a/open/shut: EACCES",
		"read "+d+"/a/open/shut/again/x: ok", "read "+d+"/tie/x: ok", "write "+d+"/a/open/x: EROFS", "create "+d+"/a/new: EACCES|EROFS",
		"write "+d+"/w/x: ok", "write "+d+"/w/no/x: EROFS", "write "+d+"/w/no/yes/x: EROFS", "rename "+d+"/w/no "+d+"/w/other: EBUSY", "write "+d+"/above/in/x: EROFS")
}

func TestLinksOpenNothingThatTheirTargetsDoNot(t *testing.T) {
	h := newHome(t)
	secret := h.write("vault/secret", "SECRET")
	h.write("real/file", "x")
	h.mkdir("shown")
	h.symlink(filepath.Dir(secret), "door")
	h.symlink(secret, "key")
	h.symlink("../vault", "shown/inner")
	h.symlink(h.dir+"/real", "writable")
	h.usePolicy(`
filesystem:
  denyRead: [~/vault, ~/shown]
  allowRead: [~/door, ~/key, ~/shown/inner]
  allowWrite: [., ~/writable]
`)
	d := h.dir
	r := h.attack("read "+d+"/door: EACCES", "read "+d+"/door/secret: EACCES", "read "+d+"/key: EACCES", "read "+d+"/shown/inner/secret: EACCES", "read "+secret+": EACCES",
		// A write root is where its name leads, and can be reached by both.
		"write "+d+"/writable/file: ok", "write "+d+"/real/file: ok", "create "+d+"/real/new: ok")
	if strings.Contains(r.out, "SECRET") {
		t.Error("the secret came out")
	}
}

func TestRootsThatAreLinksArePutUpWhereTheyLead(t *testing.T) {
	h := newHome(t)
	h.repository()
	h.write(".ssh/id", "KEY")
	h.symlink(h.dir, "alias")
	h.symlink("work", "cwd")
	real := h.work
	h.work = h.dir + "/alias/cwd"
	h.env = append(h.env, "HOME="+h.dir+"/alias")
	h.attack("write "+real+"/file: ok", "write "+h.work+"/file: ok", "write "+real+"/.git/config: EROFS", "write "+h.work+"/.git/config: EROFS",
		"create "+h.work+"/.git/hooks/x: EROFS", "rename "+real+"/.git "+real+"/g: EBUSY", "read "+h.dir+"/.ssh/id: EACCES", "read "+h.dir+"/alias/.ssh/id: EACCES",
		"create "+h.dir+"/new: EROFS", "create "+h.dir+"/alias/new: EROFS")
}

func TestParentsThatTheUserMayNotWriteAndReadOnlyMountsAreNoObstacle(t *testing.T) {
	h := newHome(t)
	repo := h.mkdir("ro")
	h.write("ro/.git/HEAD", "ref: refs/heads/main\n")
	h.write("ro/.git/config", "")
	h.write("ro/.bashrc", "")
	h.write("ro/sub/file", "x")
	if err := unix.Mount(repo, repo, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(repo, unix.MNT_DETACH)
	if err := unix.Mount("", repo, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	shut := h.mkdir("shut")
	h.write("shut/there", "x")
	t.Cleanup(func() { os.Chmod(shut, 0o755) }) // or the home cannot be removed by who is not root
	if err := os.Chmod(shut, 0o555); err != nil {
		t.Fatal(err)
	}
	h.usePolicy(`
filesystem:
  allowWrite: [., ~/ro, ~/shut]
  denyWrite: [/usr/nowhere/x, /etc/absent, ~/ro/sub/absent, ~/shut/absent]
  denyRead: [/root/nothing/below, /usr/share/nowhere, ~/ro/sub/hidden, ~/shut/there]
`)
	h.attack("write "+repo+"/sub/file: EROFS", "create "+repo+"/.git/commondir: EROFS", "create "+repo+"/sub/absent: EROFS", "create "+shut+"/absent: EACCES",
		"read "+shut+"/there: EACCES", "create "+h.work+"/fine: ok", "create /etc/absent: EROFS|EACCES")
	h.work = repo // as working directory
	h.attack("read "+repo+"/sub/file: ok", "write "+repo+"/sub/file: EROFS", "write "+repo+"/.bashrc: EROFS")
}

func TestAnOverlayIsAWriteRootLikeAnyOther(t *testing.T) {
	h := newHome(t)
	for _, name := range []string{"lower/.git/HEAD", "lower/.git/config", "lower/.bashrc", "lower/sub/file"} {
		h.write(name, "ref: refs/heads/main\n")
	}
	h.mkdir("lower/.git/objects")
	h.mkdir("lower/.git/refs")
	h.mkdir("upper")
	h.mkdir("inner")
	over := h.mkdir("over")
	opts := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/inner,userxattr", h.dir, h.dir, h.dir)
	err := unix.Mount("overlay", over, "overlay", 0, opts)
	if err != nil {
		err = unix.Mount("overlay", over, "overlay", 0, strings.TrimSuffix(opts, ",userxattr")) // before Linux 5.11
	}
	if err != nil {
		t.Skip("overlay: ", err)
	}
	defer unix.Unmount(over, unix.MNT_DETACH)
	h.work = over
	h.attack("write "+over+"/sub/file: ok", "create "+over+"/new: ok", "write "+over+"/.bashrc: EROFS", "unlink "+over+"/.bashrc: EBUSY", "write "+over+"/.git/config: EROFS",
		"create "+over+"/.git/commondir: EEXIST", "create "+over+"/.git/hooks/x: EROFS|ENOENT", "rename "+over+"/.git "+over+"/g: EBUSY|EXDEV", "write "+h.dir+"/lower/sub/file: EROFS",
		"write "+h.dir+"/upper/new: EROFS")
	if _, err := os.Lstat(h.dir + "/upper/.git/commondir"); err == nil {
		t.Error("a placeholder is left in the overlay")
	}
}

// Where the file system takes names of any case for one, so do masks.
func TestCaseVariantsOfAProtectedNameAreTheName(t *testing.T) {
	h := newHome(t)
	dir := h.mkdir("folded")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "casefold=utf8-12.1.0"); err != nil {
		t.Skip("no file system here folds case (tmpfs since Linux 6.13, by root): ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	h.own(dir)
	top := h.mkdir("folded/top")
	f, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const casefold = 0x40000000 // FS_CASEFOLD_FL
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, casefold); err != nil {
		t.Fatal("fold case: ", err)
	}
	h.write("folded/top/.bashrc", "# mine")
	h.write("folded/top/.git/config", "")
	h.write("folded/top/.git/HEAD", "ref: refs/heads/main\n")
	h.mkdir("folded/top/.git/objects")
	h.mkdir("folded/top/.git/refs")
	h.work = top
	h.attack("create "+top+"/plain: ok", "write "+top+"/PLAIN: ok", "write "+top+"/.BASHRC: EROFS", "unlink "+top+"/.BashRC: EBUSY", "write "+top+"/.GIT/CONFIG: EROFS",
		"rename "+top+"/.GIT "+top+"/x: EBUSY", "create "+top+"/.git/COMMONDIR: EEXIST", "write "+top+"/.git/CommonDir: EROFS")
}

func TestGitsWorktreesAndSubmodulesAreProtectedAndWork(t *testing.T) {
	need(t, "git")
	h := newHome(t)
	h.repository()
	h.outside(`set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
git init -q ../lib && git -C ../lib commit -q --allow-empty -m lib
git -c protocol.file.allow=always submodule add -q ../lib sub && git commit -qm sub
git worktree add -q ../tree`)
	w := h.work
	h.attack("write "+w+"/.git/modules/sub/config: EROFS", "create "+w+"/.git/modules/sub/hooks/post-checkout: EROFS", "rename "+w+"/.git/modules "+w+"/.git/m: EBUSY",
		"write "+w+"/sub/.git: EROFS", "unlink "+w+"/sub/.git: EBUSY", "write "+w+"/.gitmodules: EROFS")
	h.sh("set -e; git -C sub status --short; cd sub; echo x > f; git add f; git -c user.name=a -c user.email=a commit -qm inside; git log --oneline").ok().says("inside")
	// In a worktree: its repository is elsewhere.
	h.usePolicy("filesystem: {allowWrite: [., ~/work/.git]}")
	h.work = h.dir + "/tree"
	h.attack("write "+h.work+"/.git: EROFS", "unlink "+h.work+"/.git: EBUSY", "write "+w+"/.git/config: EROFS", "create "+w+"/.git/hooks/x: EROFS", "write "+w+"/file: EROFS")
	h.sh("set -e; echo y > g; git add g; git -c user.name=a -c user.email=a commit -qm tree; git log --oneline").ok().says("tree")
	if out := h.outside("git fsck 2>&1; git log --oneline | wc -l"); !strings.HasSuffix(strings.TrimSpace(out), "3") {
		t.Errorf("git outside, afterwards: %q", out)
	}
}

func TestTwoHundredAndFiftyWorktreesAreNoObstacle(t *testing.T) {
	need(t, "git")
	h := newHome(t)
	h.repository()
	commit := strings.TrimSpace(h.outside("git rev-parse HEAD"))
	for i := 1; i <= 250; i++ { // as git worktree add makes them, which takes its time
		h.write(fmt.Sprintf("work/trees/%d/.git", i), fmt.Sprintf("gitdir: %s/.git/worktrees/%d\n", h.work, i))
		h.write(fmt.Sprintf("work/.git/worktrees/%d/gitdir", i), fmt.Sprintf("%s/trees/%d/.git\n", h.work, i))
		h.write(fmt.Sprintf("work/.git/worktrees/%d/commondir", i), "../..\n")
		h.write(fmt.Sprintf("work/.git/worktrees/%d/HEAD", i), commit+"\n")
	}
	w := h.work
	h.attack("write "+w+"/trees/1/.git: EROFS", "unlink "+w+"/trees/250/.git: EBUSY", "rename "+w+"/trees/77/.git "+w+"/x: EBUSY|EXDEV", "write "+w+"/.git/config: EROFS",
		"create "+w+"/.git/hooks/x: EROFS", "create "+w+"/trees/9/file: ok")
	h.sh("git -C trees/123 status --short | head -1; git worktree list | wc -l").ok().says("251")
	h.noPlaceholders()
}

func TestNamesBesideWhatIsOpenInAHiddenDirectoryAreRefused(t *testing.T) {
	h := newHome(t)
	for _, name := range []string{"vault/file", "vault/dir/file", "vault/way/file", "vault/way/open/file", "vault/way/dir/file", "vault/here"} {
		h.write(name, "SECRET")
	}
	h.symlink("file", "vault/link")
	h.usePolicy("filesystem: {denyRead: [~/vault], allowRead: [~/vault/way/open, ~/vault/here]}")
	v := h.dir + "/vault"
	h.unchanged(func() {
		r := h.attack("read "+v+"/way/open/file: ok", "read "+v+"/here: ok", "read "+v+": EACCES", "read "+v+"/file: EACCES", "read "+v+"/link: EACCES", "read "+v+"/dir: EACCES",
			"read "+v+"/dir/file: EACCES", "read "+v+"/way: EACCES", "read "+v+"/way/file: EACCES", "read "+v+"/way/dir: EACCES", "read "+v+"/way/dir/file: EACCES", "read "+v+"/nothing: ENOENT",
			"write "+v+"/file: EACCES|EROFS", "create "+v+"/new: EACCES|EROFS", "create "+v+"/way/new: EACCES|EROFS", "create "+v+"/dir/new: EACCES|EROFS", "unlink "+v+"/file: EBUSY|EACCES|EROFS",
			"rmdir "+v+"/dir: EACCES|EROFS", "chmod "+v+"/dir: EROFS", "chmod "+v+"/way: EROFS", "rename "+v+"/way "+v+"/x: EACCES|EROFS|EBUSY", "umount "+v+"/file: EPERM")
		if strings.Contains(r.out+r.err, "SECRET") {
			t.Error("the secret came out")
		}
	})
}
