package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// rootHome is a home in which sallyport is started by user 0, in a working
// directory of the ordinary user.
func rootHome(t *testing.T) *home {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("takes root: the tests were started by an ordinary user")
	}
	h := newHome(t)
	h.uid, h.gid = 0, 0
	state := filepath.Join(base, "state") // nobody's home is nowhere
	if err := os.MkdirAll(state, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(state, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"XDG_STATE_HOME=" + filepath.Join(state, filepath.Base(h.dir))}
	if err := os.Mkdir(filepath.Join(state, filepath.Base(h.dir)), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(state, filepath.Base(h.dir)), 0o777); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRootIsNeverThePayloadByDefault(t *testing.T) {
	h := rootHome(t)
	if err := os.Chown(h.work, 0, 0); err != nil {
		t.Fatal(err)
	}
	h.run("touch", "started").badHost("refusing to run the command as root", "--user NAME", "--user root")
	h.env = append(h.env, "SUDO_UID=0", "SUDO_GID=0")
	h.run("touch", "started").badHost("refusing to run the command as root")
	h.notStarted()
}

const who = "id -u; id -g; id -G; grep CapEff /proc/self/status | tr -d '\\t'; echo $USER"

func TestRootBecomesAnOrdinaryUser(t *testing.T) {
	ordinaryUID, _ := ordinary()
	for name, test := range map[string]struct {
		env, flags []string
		uid, gid   int
		user       string
	}{
		"the directory's owner": {nil, nil, ordinaryUID, ordinaryUID, "nobody"},
		"who called sudo":       {[]string{"SUDO_UID=4711", "SUDO_GID=4712"}, nil, 4711, 4712, "4711"},
		"by name":               {[]string{"SUDO_UID=4711", "SUDO_GID=4712"}, []string{"--user", "daemon"}, 1, 1, "daemon"},
		"by number":             {nil, []string{"--user", "1"}, 1, 1, "daemon"},
		"by numbers":            {nil, []string{"--user", "4713:4714"}, 4713, 4714, "4713"},
	} {
		t.Run(name, func(t *testing.T) {
			h := rootHome(t)
			h.env = append(h.env, test.env...)
			want := fmt.Sprintf("%d\n%d\n%d\nCapEff:0000000000000000\n%s\n", test.uid, test.gid, test.gid, test.user)
			if r := h.runWith(test.flags, "sh", "-c", who).ok(); r.out != want {
				t.Errorf("got\n%swant\n%s", r.out, want)
			}
		})
	}
}

func TestABadUserIsRefused(t *testing.T) {
	h := rootHome(t)
	for _, user := range []string{"no-such-user", "4711", "-1", "-1:-1", "1:x", "root:", "1:-5", "4294967295:4294967295", "0x0", ""} {
		r := h.runWith([]string{"--user=" + user}, "touch", "started")
		if user == "" { // as if it was not given
			r.ok()
			os.Remove(h.work + "/started")
			continue
		}
		if r.code != 125 || !strings.Contains(r.err, "--user") {
			t.Errorf("--user %s: exit status %d\n%s", user, r.code, r.err)
		}
		h.notStarted()
	}
}

func TestABinaryInRootsOwnDirectoryIsExplained(t *testing.T) {
	h := rootHome(t)
	dir := filepath.Join(base, "private")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.binary = filepath.Join(dir, "sallyport")
	copyFile(t, binary, h.binary, 0o755)
	h.run("touch", "started").badHost("start again as user", "/usr/local/bin")
	h.notStarted()
}

func TestRootByNameHasNoPowerEither(t *testing.T) {
	h := rootHome(t)
	h.uid, h.gid = 0, 0
	secret := filepath.Join(base, "root-secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	const setting = "/proc/sys/kernel/core_pattern" // the whole machine's: put back whatever happens
	pattern, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if now, _ := os.ReadFile(setting); string(now) != string(pattern) {
			t.Errorf("core_pattern is %q, was %q", now, pattern)
			if err := os.WriteFile(setting, pattern, 0); err != nil {
				t.Error(err)
			}
		}
	})
	h.env = append(h.env, "GITHUB_TOKEN=sesame")
	flags := []string{"--user", "root", "-e", helperEnv + "=attack"}
	want := append(append([]string{"write " + secret + ": EROFS", "chmod " + secret + ": EROFS", "create /etc/pwned: EROFS", "create /usr/pwned: EROFS",
		"read /etc/shadow: EACCES", "read /proc/1/environ: EACCES", "peek 1: EACCES", "read /proc/1/root: EACCES", "kill 1 9: ok",
		"write /proc/kcore: EROFS|EACCES|EPERM|ENOENT", "read /dev/mem: ENOENT", "read /dev/kmsg: ENOENT", "create /sys/kernel/x: EROFS|EACCES|EPERM",
		"resave /proc/sys/kernel/core_pattern: EROFS|EACCES", "truncate /proc/sys/kernel/core_pattern: EROFS|EACCES",
		"bindmount /proc/sys /tmp: EPERM", "resave /proc/sys/kernel/modprobe: EROFS|EACCES|ENOENT"}, refusedCalls...), allNetlink()...)
	want = slices.DeleteFunc(want, func(a string) bool { return strings.HasPrefix(a, "write /proc/self/oom") })
	r := h.runWith(flags, append([]string{h.helperPath()}, attacksOf(want)...)...)
	compareAttacks(t, "inside, as root", r.out, want, r.err)
	if got := h.runWith(flags[:2], "sh", "-c", "id -u; grep Cap /proc/self/status | grep -c 0000000000000000").ok().out; got != "0\n5\n" {
		t.Errorf("user and empty capability sets: %q", got)
	}
	if b, _ := os.ReadFile(secret); string(b) != "x" {
		t.Errorf("root's file holds %q", b)
	}
}

func TestASetUserIDProgramGainsNothing(t *testing.T) {
	h := newHome(t)
	if os.Getuid() != 0 {
		t.Skip("takes root: a program that is set-user-ID root has to be made")
	}
	suid := filepath.Join(base, "suid")
	copyFile(t, "/usr/bin/id", suid, 0o755)
	if err := unix.Chmod(suid, 0o4755); err != nil {
		t.Fatal(err)
	}
	if out, _ := h.program(t.Context(), suid, "-u").Output(); string(out) != "0\n" {
		t.Skipf("set-user-ID has no effect outside either: %q", out)
	}
	if got := h.run(suid, "-u").ok().out; got == "0\n" {
		t.Error("a set-user-ID program became root inside")
	}
}
