package plan

import (
	"path"
	"strings"
	"testing"
)

const homeTree = `
/etc/hosts
/etc/nsswitch.conf
/etc/resolv.conf -> ../run/resolv.conf
/etc/p.yaml
/etc/shadow
/home/u/.bashrc
/home/u/.ssh/id
/home/u/.config/sallyport/policy.yaml
/home/u/.local/state/sallyport/audit/
/home/u/w/src/main.c
/home/u/secret/open/file
/home/u/secret/open/deep/file
/home/u/secret/key
/home/u/secret/link -> /etc/hosts
/home/u/other/file
/home/u/to-other -> other
/usr/bin/sallyport
/tmp/t/file
/proc/keys
/run/user/7/
`

// gitTree is a working directory with a repository.
const gitTree = `
/home/u/w/.git/HEAD
/home/u/w/.git/config
/home/u/w/.git/hooks/
/home/u/w/.git/index
/home/u/w/.git/info/exclude
/home/u/w/.git/objects/info/
/home/u/w/.git/refs/heads/main
`

// want lists paths with the access expected there: "rw /path".
func checkAccess(t *testing.T, mounts []Mount, want string) {
	t.Helper()
	for line := range strings.Lines(want) {
		access, p, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if got := accessAt(mounts, p); got.String() != access {
			t.Errorf("%s is %s, want %s", p, got, access)
		}
	}
}

func TestMountsGiveWhatThePolicySays(t *testing.T) {
	for name, test := range map[string]struct{ tree, policy, want string }{
		"default": {homeTree, "", `
			rw /home/u/w/src/main.c
			ro /home/u/other/file
			ro /usr/bin/sallyport
			hidden /home/u/.ssh/id
			hidden /etc/shadow
			hidden /home/u/.config/sallyport/policy.yaml
			hidden /home/u/.local/state/sallyport/audit
			private /tmp/t/file
			private /proc/self
			hidden /proc/keys
			private /run/user/7`},
		"a path opened again inside a hidden one": {homeTree, `
filesystem:
  denyRead: [~/secret, ~/secret/open/deep]
  allowRead: [~/secret/open]`, `
			hidden /home/u/secret/key
			ro /home/u/secret/open/file
			hidden /home/u/secret/open/deep/file`},
		"denial of writing wins": {homeTree, `
filesystem:
  allowWrite: [~/w, ~/w/src]
  denyWrite: [~/w]`, `
			ro /home/u/w
			ro /home/u/w/src/main.c`},
		"a hidden path is not written": {homeTree, `
filesystem:
  allowWrite: ["~"]
  denyRead: [~/secret]`, `
			rw /home/u/other/file
			hidden /home/u/secret/key
			ro /home/u/.bashrc`},
		"a write root spelled as a link": {homeTree, `
filesystem:
  allowWrite: [~/to-other]`, `
			rw /home/u/other/file
			ro /home/u/w`},
		"a read denial spelled as a link": {homeTree, `
filesystem:
  denyRead: [~/to-other]`, `
			hidden /home/u/other/file`},
		"a private directory shared by name": {homeTree, `
filesystem:
  allowWrite: [/tmp/t]`, `
			rw /tmp/t/file
			private /tmp`},
		"the host's part of a private directory": {homeTree, "filesystem: {allowRead: [/tmp/t], allowWrite: []}", `
			ro /tmp/t/file
			private /tmp`},
		"a denial inside the host's part of a private directory": {homeTree, "filesystem: {allowRead: [/tmp/t], denyRead: [/tmp/t/file]}", `
			hidden /tmp/t/file
			ro /tmp/t`},
		"private directories as a whole": {homeTree + "/proc/1/environ\n/dev/sda\n", `
filesystem:
  allowRead: [/tmp, /run, /proc, /dev, /proc/1]
  allowWrite: [/tmp, /run, /proc, /dev, /proc/1]`, `
			private /tmp/t/file
			private /proc/1/environ
			private /dev/sda
			private /run/user/7`},
		"globs": {homeTree, `
filesystem:
  denyRead: ["~/*/key", "/home/u/**/deep"]
  allowWrite: ["~/o*"]`, `
			hidden /home/u/secret/key
			hidden /home/u/secret/open/deep/file
			ro /home/u/secret/open/file
			rw /home/u/other/file
			ro /home/u/w`},
		"a repository": {homeTree + gitTree, "", `
			rw /home/u/w/.git
			rw /home/u/w/.git/index
			rw /home/u/w/.git/refs/heads/main
			ro /home/u/w/.git/config
			ro /home/u/w/.git/hooks
			ro /home/u/w/.git/commondir
			ro /home/u/w/.git/config.worktree
			ro /home/u/w/.git/info/attributes
			ro /home/u/w/.git/objects/info/alternates
			rw /home/u/w/.git/info/exclude`},
		"a repository whose configuration is opened": {homeTree + gitTree, `
filesystem:
  allowGitConfig: true`, `
			rw /home/u/w/.git/config
			ro /home/u/w/.git/hooks`},
		"a bare repository": {homeTree + strings.ReplaceAll(gitTree, "/.git/", "/bare/"), "", `
			rw /home/u/w/bare/index
			ro /home/u/w/bare/config
			ro /home/u/w/bare/hooks
			ro /home/u/w/bare/commondir`},
		"a worktree's pointer": {homeTree + "/home/u/w/.git\n", "", `
			ro /home/u/w/.git
			rw /home/u/w/src`},
		"files off": {homeTree, `
filesystem:
  disabled: true`, `
			rw /home/u/.bashrc
			rw /etc/hosts
			rw /home/u/.ssh/id
			hidden /home/u/.config/sallyport/policy.yaml
			ro /usr/bin/sallyport`},
	} {
		t.Run(name, func(t *testing.T) {
			checkAccess(t, mustMake(t, testInput(t, newTree(test.tree), test.policy)).Mounts, test.want)
		})
	}
}

func TestEveryAncestorOfAProtectedPathIsAMountPoint(t *testing.T) {
	tr := newTree(homeTree + gitTree + `
/home/u/w/a/b/c/.bashrc
/home/u/w/a/b/c/.vscode/settings.json
/home/u/w/.git/modules/m/config
`)
	p := mustMake(t, testInput(t, tr, "filesystem: {denyWrite: [~/w/x/y/z, ~/w/src/main.c]}"))
	checkPinned(t, p.Mounts)
	for _, dir := range []string{"/home/u/w/a/b/c", "/home/u/w/a/b", "/home/u/w/a", "/home/u/w/.git", "/home/u/w/.git/modules/m",
		"/home/u/w/.git/modules", "/home/u/w/src"} {
		if !mounted(p.Mounts, dir) {
			t.Errorf("%s could be renamed away", dir)
		}
	}
}

func mounted(mounts []Mount, p string) bool {
	for _, m := range mounts {
		if m.Path == p {
			return true
		}
	}
	return false
}

// checkPinned holds every directory between something protected and its write
// root against the list.
func checkPinned(t testing.TB, mounts []Mount) {
	t.Helper()
	for _, m := range mounts {
		if m.Access == ReadWrite || m.Link != "" {
			continue
		}
		for dir := path.Dir(m.Path); dir != "/" && accessAt(mounts, dir) == ReadWrite && accessAt(mounts, path.Dir(dir)) == ReadWrite; dir = path.Dir(dir) {
			if !mounted(mounts, dir) {
				t.Errorf("%s, which holds %s, is no mount point: it can be renamed away", dir, m.Path)
			}
		}
	}
}

func TestAbsentProtectedPathsGetPlaceholders(t *testing.T) {
	for name, test := range map[string]struct{ tree, policy, want string }{
		"no repository, no placeholder": {homeTree, "", ""},
		"what git would trust": {homeTree + gitTree, "", `
			/home/u/w/.git/commondir = ".\n"
			/home/u/w/.git/config.worktree = ""
			/home/u/w/.git/info/attributes = ""
			/home/u/w/.git/objects/info/alternates = ""`},
		"what git would trust, but the repository is not written": {homeTree + gitTree, "filesystem: {denyWrite: [~/w/.git]}", ""},
		"hooks": {homeTree + "/home/u/w/.git/HEAD\n/home/u/w/.git/config\n/home/u/w/.git/commondir\n/home/u/w/.git/objects/\n" +
			"/home/u/w/.git/info/attributes\n/home/u/w/.git/config.worktree\n/home/u/w/.git/objects/info/alternates\n", "", `
			/home/u/w/.git/hooks/`},
		"no directory to put it in": {homeTree + "/home/u/w/.git/HEAD\n/home/u/w/.git/config\n/home/u/w/.git/commondir\n/home/u/w/.git/hooks/\n" +
			"/home/u/w/.git/config.worktree\n/home/u/w/.git/objects/info/alternates\n", "", `
			/home/u/w/.git/info/
			/home/u/w/.git/info/attributes = ""`},
		"a user's own": {homeTree, "filesystem: {denyWrite: [~/w/absent, ~/w/no/such/file, ~/elsewhere, /home/u/w/src/x]}", `
			/home/u/w/absent = ""
			/home/u/w/no/
			/home/u/w/no/such/
			/home/u/w/no/such/file = ""
			/home/u/w/src/x = ""`},
		"our own, where all of $HOME is written": {"/home/u/w/\n", "filesystem: {allowWrite: ['~'], denyRead: [~/w/hidden]}", `
			/home/u/.cache/
			/home/u/.cache/sallyport/
			/home/u/.config/
			/home/u/.config/sallyport/
			/home/u/.local/
			/home/u/.local/state/
			/home/u/.local/state/sallyport/
			/home/u/.srt-settings.json = "{}\n"
			/home/u/w/hidden = ""`},
		"a user's own where nothing can be written": {homeTree, "filesystem: {allowWrite: [], denyWrite: [~/w/absent]}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustMake(t, testInput(t, newTree(test.tree), test.policy))
			got := map[string]bool{}
			for _, s := range p.Stubs {
				text := s.Path + " = " + `"` + strings.ReplaceAll(s.Content, "\n", `\n`) + `"`
				if s.Dir {
					text = s.Path + "/"
				}
				if got[text] {
					t.Errorf("%s twice", text)
				}
				got[text] = true
				if a := accessAt(p.Mounts, s.Path); a == ReadWrite && !s.Dir || !mounted(p.Mounts, s.Path) {
					t.Errorf("nothing protects the placeholder %s (%s)", s.Path, a)
				}
				if s.Rule.String() == "builtin:" {
					t.Errorf("%s has no rule", s.Path)
				}
			}
			for line := range strings.Lines(test.want) {
				if line = strings.TrimSpace(line); line != "" && !got[line] {
					t.Errorf("no placeholder %s", line)
				}
				delete(got, line)
			}
			delete(got, "")
			for extra := range got {
				t.Errorf("placeholder %s is too much", extra)
			}
		})
	}
}

func TestAnAbsentSecretThatCanBeMadeIsNoted(t *testing.T) {
	p := mustMake(t, testInput(t, newTree("/home/u/w/\n"), "filesystem: {allowWrite: ['~']}"))
	if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, "/home/u/.ssh does not exist") {
		t.Errorf("notes: %q", notes)
	}
}

func TestAPlaceholderThatCannotBeMadeGoesWithItsMount(t *testing.T) {
	p := mustMake(t, testInput(t, newTree(homeTree+gitTree), ""))
	name := "/home/u/w/.git/commondir"
	before := len(p.Stubs)
	if !mounted(p.Mounts, name) {
		t.Fatal("no mount to take away")
	}
	p.Without([]string{name})
	if mounted(p.Mounts, name) || len(p.Stubs) != before-1 || strings.Contains(p.String(), name) {
		t.Errorf("still there:\n%s", p)
	}
}

func TestAProtectedNameThatIsALinkIsNoted(t *testing.T) {
	p := mustMake(t, testInput(t, newTree(homeTree+"/home/u/w/.bashrc -> /home/u/other/file\n"), "filesystem: {allowWrite: [~/w, ~/other]}"))
	checkAccess(t, p.Mounts, "ro /home/u/other/file")
	if !strings.Contains(strings.Join(p.Notes, "\n"), "/home/u/w/.bashrc is a symbolic link") {
		t.Errorf("notes: %q", p.Notes)
	}
}

func TestALinkInAHiddenDirectoryIsMadeAnewAndOpensNothing(t *testing.T) {
	tr := newTree(homeTree + "/home/u/secret/out -> key\n")
	p := mustMake(t, testInput(t, tr, "filesystem: {denyRead: [~/secret], allowRead: [~/secret/out, ~/secret/link]}"))
	checkAccess(t, p.Mounts, "hidden /home/u/secret/key")
	links := 0
	for _, m := range p.Mounts {
		if m.Link != "" {
			links++
		}
	}
	if links != 2 {
		t.Errorf("%d links, want 2: %v", links, p.Mounts)
	}
	if notes := strings.Join(p.Notes, "\n"); strings.Count(notes, "its target is not re-opened") != 2 {
		t.Errorf("notes: %q", notes)
	}
}

func TestTooLargeAScanIsAnErrorNotAHole(t *testing.T) {
	tr := newTree(homeTree)
	for i := range 2100 {
		dir := "/home/u/w/d" + strings.Repeat("x", i%50) + string(rune('a'+i/50%26)) + string(rune('a'+i/1300))
		tr.add(dir + "/")
	}
	r := newResolver(tr)
	s := scanner{r: r, left: 100}
	if err := s.scan("/home/u/w", 3); err == nil {
		t.Error("a scan that gave up is taken for a whole one")
	}
}
