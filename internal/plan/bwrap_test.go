package plan

import (
	"slices"
	"strings"
	"testing"
)

// A change of any argument shows here.
func TestPlanText(t *testing.T) {
	for name, test := range map[string]struct {
		tree, policy string
		change       func(*Input)
	}{
		"default": {homeTree, "", nil},
		"repository": {homeTree + gitTree, `
filesystem:
  denyRead: [~/secret]
  allowRead: [~/secret/open, ~/secret/link]
  allowWrite: [., ~/to-other, ~/none]
  denyWrite: [~/w/absent]`, nil},
		"old-host": {homeTree, "", func(in *Input) {
			in.Caps = Capabilities{Bwrap: "/usr/bin/bwrap"}
			in.RuntimeDir = ""
		}},
		"root": {homeTree + "/sys/kernel/x\n", "filesystem: {allowWrite: [/]}", func(in *Input) { in.Root = true }},
		"files-off": {homeTree, "filesystem: {disabled: true}", func(in *Input) {
			in.Argv = []string{"sh", "-c", "echo 'it is'"}
		}},
		"everything-hidden": {homeTree, "filesystem: {denyRead: [/], allowRead: [/usr, ~/w], allowWrite: [~/w]}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := testInput(t, newTree(test.tree), test.policy)
			in.Environ = []string{"PATH=/usr/bin", "SECRET=x"}
			if test.change != nil {
				test.change(&in)
			}
			p := mustMake(t, in)
			text := p.String()
			from, to := strings.Index(text, "# nftables"), strings.Index(text, "# not recorded")
			golden(t, "plan-"+name+".txt", text[:from]+text[to:]) // these have goldens of their own
		})
	}
}

func TestAPlanWantsACommand(t *testing.T) {
	in := testInput(t, newTree(homeTree), "")
	in.Argv = nil
	if _, err := Make(in); err == nil {
		t.Error("planned nothing")
	}
}

// index finds a run of arguments.
func index(args []string, want ...string) int {
	for i := range args {
		if len(args)-i >= len(want) && slices.Equal(args[i:i+len(want)], want) {
			return i
		}
	}
	return -1
}

func TestWhatIsReadOnlyIsRemountedLast(t *testing.T) {
	p := mustMake(t, testInput(t, newTree(homeTree), "filesystem: {denyRead: [~/secret], allowRead: [~/secret/open]}"))
	args := p.BwrapArgs()
	hide, show := index(args, "--tmpfs", "/home/u/secret"), index(args, "--ro-bind", "/home/u/secret/open", "/home/u/secret/open")
	last := index(args, "--remount-ro", "/home/u/secret")
	if hide < 0 || show < hide || last < show {
		t.Errorf("hidden at %d, opened at %d, sealed at %d: %q", hide, show, last, args)
	}
	if args[hide-2] != "--perms" || args[hide-1] != "0111" {
		t.Errorf("a hidden directory with something visible below must be passable, not readable: %q", args[hide-2:hide])
	}
}

func TestARuntimeDirectoryAnywhereIsThePayloadsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		dir, policy string
		private     bool
	}{
		"in the private /run":           {"/run/user/7", "", true},
		"in the working directory":      {"/home/u/w/src", "", true},
		"not written, but shown":        {"/home/u/w/src", "filesystem: {denyWrite: [~/w/src]}", true},
		"hidden anyway":                 {"/home/u/w/src", "filesystem: {denyRead: [~/w/src]}", true},
		"asked for":                     {"/home/u/other", "filesystem: {allowWrite: [~/other], allowRead: [~/other]}", true},
		"one that does not exist":       {"/home/u/none", "", false},
		"one that cannot be taken away": {"/", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			in := testInput(t, newTree(homeTree), test.policy)
			in.RuntimeDir = test.dir
			p := mustMake(t, in)
			args := p.BwrapArgs()
			if got := index(args, "--tmpfs", test.dir) >= 0; got != test.private {
				t.Errorf("private: %t, want %t: %q", got, test.private, args)
			}
			for _, bind := range []string{"--bind", "--ro-bind"} {
				if at := index(args, bind, test.dir, test.dir); test.dir != "/" && at >= 0 {
					t.Errorf("the host's is shown: %q", args[at:])
				}
				above := index(args, bind, "/home/u/w", "/home/u/w")
				if above > index(args, "--tmpfs", test.dir) && test.private && strings.HasPrefix(test.dir, "/home/u/w") {
					t.Error("what is mounted above it covers it")
				}
			}
			passed := slices.Contains(p.Env, "XDG_RUNTIME_DIR="+test.dir)
			if passed != test.private {
				t.Errorf("in the environment: %t", passed)
			}
		})
	}
}

func TestOwnFilesStandWhereTheHostsLead(t *testing.T) {
	for name, test := range map[string]struct{ tree, policy, want string }{
		"links are followed": {homeTree, "", "/etc/hosts /run/resolv.conf /etc/nsswitch.conf"},
		"none on the host":   {"/home/u/w/\n", "", ""},
		"hidden /etc":        {homeTree, "filesystem: {denyRead: [/etc]}", "/etc/hosts /run/resolv.conf /etc/nsswitch.conf"},
	} {
		p := mustMake(t, testInput(t, newTree(test.tree), test.policy))
		var got []string
		for _, f := range p.Files {
			got = append(got, f.Path)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: %q, want %q", name, s, test.want)
		}
		if missing := 3 - len(got); missing != strings.Count(strings.Join(p.Notes, "\n"), "libc's default") {
			t.Errorf("%s: %d files left out, notes %q", name, missing, p.Notes)
		}
	}
}
