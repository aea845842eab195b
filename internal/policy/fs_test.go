package policy

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// decisions says "op path: verdict rule" of each line "op path".
func checkFiles(t *testing.T, p *Policy, cases string) {
	t.Helper()
	for line := range strings.Lines(cases) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var op event.Operation
		if err := op.UnmarshalText([]byte("file." + f[0])); err != nil {
			t.Fatal(err)
		}
		d := p.DecideFile(op, f[1])
		if d.Verdict.String() != f[2] || d.Rule.String() != f[3] {
			t.Errorf("%s %s: %s %s (%s), want %s %s", f[0], f[1], d.Verdict, d.Rule, d.Reason, f[2], f[3])
		}
	}
}

func TestTheRuleOfAFileIsThatOfItsDecision(t *testing.T) {
	p, err := Make(testEnv, []Source{{Name: "p", Data: []byte("filesystem: {denyRead: [~/secret, ~/.ssh], allowRead: [~/secret/open], allowWrite: [., ~/secret], denyWrite: [./no]}")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/home/u/secret/x", "/home/u/secret/open", "/home/u/.ssh/id", "/home/u/proj/no/x", "/home/u/proj/.git/config", "/etc/passwd", "/", "relative"} {
		for op := range fileAccess {
			want := p.DecideFile(op, path)
			want.Fix = ""
			if got := p.FileRule(op, path); got != want {
				t.Errorf("%s %s: %+v, want %+v", op, path, got, want)
			}
		}
	}
}

func TestDefaultFilePolicy(t *testing.T) {
	checkFiles(t, mustPolicy(t, testEnv), `
		read   /etc/passwd                allow builtin:read-default
		exec   /usr/bin/env               allow builtin:read-default
		read   /home/u/notes              allow builtin:read-default
		read   /home/u/.ssh               deny  builtin:secrets:~/.ssh
		read   /home/u/.ssh/id_ed25519    deny  builtin:secrets:~/.ssh
		exec   /home/u/.ssh/x             deny  builtin:secrets:~/.ssh
		write  /home/u/.ssh/config        deny  builtin:secrets:~/.ssh
		read   /home/u/.sshx              allow builtin:read-default
		read   /home/u/.bash_history      deny  builtin:secrets:~/.*_history
		read   /home/u/.cargo/credentials.toml deny builtin:secrets:~/.cargo/credentials*
		read   /etc/ssh/ssh_host_rsa_key  deny  builtin:secrets:/etc/ssh/ssh_host_*_key
		read   /etc/ssh/ssh_host_rsa_key.pub allow builtin:read-default
		write  /home/u/proj/x             allow builtin:working-directory
		create /home/u/proj               allow builtin:working-directory
		write  /home/u/proj2/x            deny  builtin:read-only
		write  /home/u/x                  deny  builtin:read-only
		write  /etc/passwd                deny  builtin:read-only
		delete /                          deny  builtin:own-policy
		write  /tmp/x                     allow builtin:private-directory
		write  /dev/null                  allow builtin:private-directory
		write  /run/user/1000/x           allow builtin:private-directory
		write  /var/tmp/x                 deny  builtin:read-only
		meta   /home/u/proj/x             allow builtin:working-directory
		link   /home/u/x                  deny  builtin:read-only`)
}

func TestSallyportsOwnFilesAreOutOfReach(t *testing.T) {
	const text = `filesystem: {allowRead: [/], allowWrite: [/]}`
	const cases = `
		read   /home/u/.local/state/sallyport/audit/x.jsonl deny builtin:own-state
		write  /home/u/.local/state/sallyport/audit/x.jsonl deny builtin:own-state
		rename /home/u/.local/state                         deny builtin:own-state
		delete /home/u/.local                               deny builtin:own-state
		read   /home/u/.config/sallyport/policy.yaml        deny builtin:own-policy
		write  /home/u/.config/sallyport/new.yaml           deny builtin:own-policy
		read   /home/u/.srt-settings.json                   deny builtin:own-policy
		write  /home/u/proj/p0.yaml                         deny builtin:own-policy
		read   /home/u/proj/p0.yaml                         deny builtin:own-policy
		write  /etc/sallyport/policy.d/a.yaml               deny builtin:own-policy
		write  /usr/local/bin/sallyport                     deny builtin:own-binary
		rename /usr/local/bin                               deny builtin:own-binary
		write  /home/u/.cache/sallyport/x                   deny builtin:own-cache
		read   /run/user/1000/sallyport/ask.sock            deny builtin:own-sockets
		write  /run/sallyport/agent.sock                    deny builtin:own-sockets
		read   /var/lib/sallyport/audit.jsonl               deny builtin:own-state`
	p := mustPolicy(t, testEnv, text)
	checkFiles(t, p, cases)
	checkFiles(t, p, "exec /usr/local/bin/sallyport allow builtin:read-default\nwrite /usr/local/bin/x allow p0.yaml:1")
	checkFiles(t, mustPolicy(t, testEnv, `filesystem: {disabled: true}`), cases)
}

func TestReadPrecedence(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem:
  denyRead:
    - "~"
    - "**/.env"
    - /data/a/secret
    - /same
  allowRead:
    - .
    - /data/a
    - /same
    - ~/docs/*.md
    - ~/docs/private/secret.md
    - /data/a/secret/but/this
`)
	checkFiles(t, p, `
		read /home/u/x              deny  p0.yaml:3
		read /home/u/proj/x         allow p0.yaml:8
		read /home/u/proj/.env      deny  p0.yaml:4
		read /home/u/proj/a/.env/b  deny  p0.yaml:4
		read /elsewhere/.env        allow builtin:read-default
		read /data/a/secret         deny  p0.yaml:5
		read /data/a/secret/x       deny  p0.yaml:5
		read /data/a/secret/but/this/x allow p0.yaml:13
		read /data/a/other          allow builtin:read-default
		read /same/x                allow p0.yaml:10
		read /home/u/docs/a.md      allow p0.yaml:11
		read /home/u/docs/a.txt     deny  p0.yaml:3
		read /home/u/docs/b/a.md    deny  p0.yaml:3
		read /home/u                deny  p0.yaml:3`)
}

func TestWritePrecedence(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem:
  denyRead: [/hidden]
  allowWrite:
    - .
    - /data/a/b
    - src/**/*.gen
    - /hidden/in
    - {path: "/odd/*", literal: true}
    - "~/[user-id]"
  denyWrite:
    - /data/a
    - dist
    - "**/*.lock"
    - vendor/x/y
`)
	checkFiles(t, p, `
		write  /home/u/proj/x           allow p0.yaml:4
		write  /home/u/proj/dist        deny  p0.yaml:12
		write  /home/u/proj/dist/x      deny  p0.yaml:12
		write  /home/u/proj/a/b.lock    deny  p0.yaml:13
		write  /home/u/proj/distx       allow p0.yaml:4
		write  /data/a/b/c              deny  p0.yaml:11
		write  /hidden/in/x             deny  p0.yaml:2
		write  /odd/*                   allow p0.yaml:8
		write  /odd/x                   deny  builtin:read-only
		write  /home/u/[user-id]/x      allow p0.yaml:9
		write  /home/u/u/x              deny  builtin:read-only
		rename /home/u/proj/vendor/x    deny  p0.yaml:14
		delete /home/u/proj/vendor      deny  p0.yaml:14
		write  /home/u/proj/vendor/x/z  allow p0.yaml:4
		rename /home/u/proj/vendors     allow p0.yaml:4`)
}

func TestPatternsUnderADirectoryThatLooksLikeOne(t *testing.T) {
	env := testEnv
	env.Cwd = "/home/u/[ab]*"
	p := mustPolicy(t, env, `filesystem: {denyRead: [], allowWrite: ["*.txt", "d/**"]}`)
	checkFiles(t, p, `
		write /home/u/[ab]*/x.txt allow p0.yaml:1
		write /home/u/[ab]*/d/x   allow p0.yaml:1
		write /home/u/a/x.txt     deny  builtin:read-only
		write /home/u/a/d/x       deny  builtin:read-only`)
}

func TestProtectedNamesAreNeverWritten(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem: {denyRead: [], allowWrite: [/home/u, /srv/w]}`)
	for _, path := range []string{".gitconfig", ".gitmodules", ".bashrc", ".bash_profile", ".bash_login",
		".zshrc", ".zprofile", ".zshenv", ".zlogin", ".profile", ".ripgreprc", ".mcp.json", ".envrc",
		".sallyport.yaml", ".vscode", ".vscode/tasks.json", ".idea/x", ".claude/commands/a.md",
		".claude/agents/a", ".claude/settings.json", ".claude/settings.local.json", ".git/hooks",
		".git/hooks/pre-commit", ".git/config", ".git/config.worktree", ".git/commondir",
		".git/info/attributes", ".git/objects/info/alternates", ".git/modules/a/config",
		".git/modules/a/b/hooks/x", ".git", ".GIT/Hooks/x", ".BashRC"} {
		for _, dir := range []string{"/home/u/", "/srv/w/deep/er/"} {
			d := p.DecideFile(event.FileWrite, dir+path)
			if d.Allowed() || d.Reason != event.PathProtected || !strings.HasPrefix(d.Rule.String(), "builtin:protected:") {
				t.Errorf("%s: %v %v by %v", dir+path, d.Verdict, d.Reason, d.Rule)
			}
			if d.Fix != "" {
				t.Errorf("%s: proposed to open: %s", path, d.Fix)
			}
		}
	}
	for _, path := range []string{".git/HEAD", ".git/objects/ab/cd", ".git/info/exclude", ".bashrc.d/x",
		".bashrc/x", "x.gitconfig", ".claude/notes", ".claude/settings", ".gitignore", ".git/refs/heads/config",
		".git/modules/a/HEAD", ".github/x"} {
		if d := p.DecideFile(event.FileWrite, "/srv/w/"+path); !d.Allowed() {
			t.Errorf("%s is denied by %v", path, d.Rule)
		}
	}
	checkFiles(t, p, `
		create /srv/w/.git              allow p0.yaml:1
		link   /srv/w/.git              deny  builtin:protected:.git
		rename /srv/w/.git              deny  builtin:protected:.git
		delete /srv/w/.claude           deny  builtin:protected:.claude/settings*.json
		rename /srv/w/.git/info         deny  builtin:protected:.git/info/attributes
		rename /srv/w/.git/modules/a    deny  builtin:protected:.git/modules/**/config
		rename /srv/w/.git/refs         allow p0.yaml:1
		write  /tmp/x/.git/hooks/a      allow builtin:private-directory
		write  /opt/.bashrc             deny  builtin:read-only`)
}

func TestAllowGitConfigOpensOnlyTheConfig(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem: {allowGitConfig: true}`)
	checkFiles(t, p, `
		write /home/u/proj/.git/config          allow builtin:working-directory
		write /home/u/proj/.git/modules/a/config allow builtin:working-directory
		write /home/u/proj/.git/hooks/x         deny  builtin:protected:.git/hooks
		write /home/u/proj/.gitconfig           deny  builtin:protected:.gitconfig
		write /home/u/proj/.git/config.worktree deny  builtin:protected:.git/config.worktree`)
}

func TestDecideFileRefusesPathsOfMoreThanOneSpelling(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem: {allowWrite: [/]}`)
	for _, path := range []string{"", "x", "./x", "/x/", "/x/../y", "//x", "/x/./y", "/x\x00", "~"} {
		for _, op := range []event.Operation{event.FileRead, event.FileWrite} {
			if d := p.DecideFile(op, path); d.Allowed() {
				t.Errorf("%v %q is allowed by %v", op, path, d.Rule)
			}
		}
	}
	for _, op := range []event.Operation{event.OpUnknown, event.NetConnect, event.SysRefused, 200} {
		if p.DecideFile(op, "/x").Allowed() {
			t.Errorf("%v is allowed", op)
		}
	}
}

func TestABroadWorkingDirectoryGivesNoWriteRoot(t *testing.T) {
	for _, cwd := range []string{"/", "/home", "/home/u"} {
		env := testEnv
		env.Cwd = cwd
		p := mustPolicy(t, env)
		if n := len(p.Files().AllowWrite); n != 0 {
			t.Errorf("%s: %d write roots", cwd, n)
		}
		if w := p.Warnings(); len(w) != 1 || w[0].Hint == "" {
			t.Errorf("%s: warnings %v", cwd, w)
		}
		if p.DecideFile(event.FileWrite, "/home/u/x").Allowed() {
			t.Errorf("%s: the home directory is writable", cwd)
		}
	}
}

func TestFixOfAFileDenialAllowsIt(t *testing.T) {
	const text = "filesystem:\n  denyRead: [/hidden]\n"
	for _, c := range []struct {
		op   event.Operation
		path string
	}{
		{event.FileWrite, "/srv/x"}, {event.FileWrite, "/srv/a b/'c'"}, {event.FileWrite, "/srv/[ab]*"},
		{event.FileRead, "/hidden/x"}, {event.FileWrite, "/hidden/x"},
	} {
		p := mustPolicy(t, testEnv, text)
		fix := p.DecideFile(c.op, c.path).Fix
		fixed := text
		for part := range strings.SplitSeq(fix, "; ") {
			if _, yaml, ok := strings.Cut(part, " (filesystem."); ok {
				part = strings.TrimSuffix(yaml, ")")
			}
			fixed += "  " + strings.TrimPrefix(part, "filesystem.") + "\n"
		}
		if d := mustPolicy(t, testEnv, fixed).DecideFile(c.op, c.path); fix == "" || !d.Allowed() {
			t.Errorf("%v %s: %q does not allow it: %v", c.op, c.path, fix, d.Rule)
		}
	}
	p := mustPolicy(t, testEnv, `filesystem: {denyRead: ["~"]}`)
	for _, path := range []string{"/home/u/.ssh/id", "/home/u/.aws"} {
		if d := p.DecideFile(event.FileRead, path); d.Allowed() || d.Fix != "" {
			t.Errorf("%s: proposed to open a secret: %q", path, d.Fix)
		}
	}
}

func TestDisabledFilesystemAllowsTheRest(t *testing.T) {
	p := mustPolicy(t, testEnv, `filesystem: {disabled: true, denyRead: [/x], denyWrite: [/y]}`)
	checkFiles(t, p, `
		read  /x             allow builtin:filesystem-disabled
		write /y             allow builtin:filesystem-disabled
		write /home/u/.bashrc allow builtin:filesystem-disabled`)
	f := p.Files()
	if !f.Disabled || len(f.Protected) != 0 || len(f.ProtectedPaths) == 0 {
		t.Errorf("rules: %+v", f)
	}
}

func TestFilesGivesAPlanWhatItNeeds(t *testing.T) {
	p := mustPolicy(t, testEnv, `{mandatoryDenySearchDepth: 7, filesystem: {denyRead: [a, "b/*"], allowRead: [c/**], allowWrite: [.], denyWrite: ["~/d/"]}}`)
	f := p.Files()
	find := func(list []PathRule, path string, glob bool) {
		t.Helper()
		for _, r := range list {
			if r.Path == path && r.Glob == glob && r.Rule.String() == "p0.yaml:1" {
				return
			}
		}
		t.Errorf("no %s (glob %v) in %+v", path, glob, list)
	}
	find(f.DenyRead, "/home/u/proj/a", false)
	find(f.DenyRead, "/home/u/proj/b/*", true)
	find(f.AllowRead, "/home/u/proj/c", false)
	find(f.AllowWrite, "/home/u/proj", false)
	find(f.DenyWrite, "/home/u/d", false)
	if f.ScanDepth != 7 {
		t.Errorf("scan depth %d", f.ScanDepth)
	}
	final := 0
	for _, r := range f.DenyRead {
		if r.Final {
			final++
		}
	}
	if final == 0 || final == len(f.DenyRead) {
		t.Errorf("%d of %d read denials are final", final, len(f.DenyRead))
	}
	f.DenyRead[0].Path = "/changed"
	if p.Files().DenyRead[0].Path == "/changed" {
		t.Error("a caller can change the policy")
	}
}
