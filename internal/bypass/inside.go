package bypass

import (
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

func words(s string) []string { return strings.Fields(s) }

// unixConnect is the record of a socket of the host's.
func unixConnect(path string) []Record {
	return always(Record{Op: event.UnixConnect, Path: path, Reason: event.NotAllowed, Rule: "unix-socket"})
}

func handed() []Vector {
	return []Vector{
		{ID: "scm-rights", Text: "SCM_RIGHTS: a connected socket from a server outside", Area: Handed, Try: []string{"takefd", "$home/other/giver.sock"},
			Want: "EACCES", Outside: "ok", Records: unixConnect("$home/other/giver.sock")},
		{ID: "scm-rights-datagram", Text: "SCM_RIGHTS over a datagram socket", Area: Handed, Try: words("socket 1 2 0"), Want: "EACCES", Outside: "ok",
			Records: family(event.NetSocket, "AF_UNIX/SOCK_DGRAM/0")},
		{ID: "datagram-pair", Text: "a datagram socketpair, whose ends reach other sockets by address", Area: Handed, Try: []string{"pair", "2"}, Want: "EACCES", Outside: "ok",
			Records: always(Record{Op: event.NetSocket, Reason: event.SocketRefused, Rule: "seccomp-socketpair-family", Socket: "AF_UNIX/SOCK_DGRAM/0"})},
		{ID: "inherited-descriptor", Text: "a connected socket that the caller left open", Area: Handed, Try: []string{"inherited"}, Want: "EBADF",
			Nothing: "every descriptor beyond 0, 1 and 2 is closed before the command starts"},
		{ID: "socket-as-stdin", Text: "a socket of the host's network as standard input", Area: Handed, Held: []string{"TestSocketsAsStandardStreamsReachNothing"}},
	}
}

func sockets() []Vector {
	host := func(id, text, path string, try ...string) Vector {
		if try == nil {
			try = []string{"uconnect", "stream", path}
		}
		return Vector{ID: id, Text: text, Area: Sockets, Try: try, Want: "EACCES", Outside: "ok", Records: unixConnect(path)}
	}
	hidden := host("unix-in-tmp", "a socket of the host's in /tmp", "$tmp/s.sock")
	hidden.Want, hidden.Records = "ENOENT", always(Record{Op: event.UnixConnect, Path: "$tmp/s.sock", Reason: event.PathHidden, Rule: "unix-socket"})
	docker := host("docker", "docker.sock (a fake one): start a container", "$home/.docker/run/docker.sock", "docker", "$home/.docker/run/docker.sock")
	docker.Records[0].Reason = event.PathHidden
	return []Vector{
		host("unix-pathname", "a socket of the host's by path", "$home/other/host.sock"),
		host("unix-workdir", "a socket of the host's in the working directory", "$work/host.sock"),
		hidden,
		{ID: "unix-abstract", Text: "an abstract socket of the host's", Area: Sockets, Try: []string{"uconnect", "stream", "$abstract"}, Want: "ECONNREFUSED", Outside: "ok",
			Nothing: "abstract names are the network namespace's own"},
		docker,
		host("ssh-agent", "ssh-agent: sign with the user's keys", "$home/other/agent.sock", "sshagent", "$home/other/agent.sock"),
		host("bus", "the user's bus: have a service started outside", "$home/other/bus", "dbus", "$home/other/bus"),
		{ID: "systemd-run", Text: "systemd-run --user: have a program started outside", Area: Sockets, Try: []string{"systemdrun", "$home/work/ran"}, Outside: "ok",
			Records: always(Record{Op: event.UnixConnect, Reason: event.PathHidden, Rule: "unix-socket", Program: "systemd-run"})},
		{ID: "deputies", Text: "nscd, tmux, GVFS: sockets in /run, /tmp and the runtime directory", Area: Sockets,
			Held: []string{"TestSocketsBehindPrivateDirectoriesAreRecorded", "TestTheUsersBusIsReachedOnlyWhenListed", "TestDockerIsReachedOnlyWhenListed", "TestSSHAgentIsReachedOnlyWhenListed"}},
		{ID: "neighbour", Text: "a socket of another sandbox", Area: Sockets, Held: []string{"TestSocketsOfAnotherSandboxAreOutOfReach", "TestTwoSandboxesDoNotSeeEachOther"}},
		{ID: "unix-race", Text: "the address, or a link, changed while it is decided on", Area: Sockets, Held: []string{"TestRaceForTheAddressIsNotWon", "TestRaceForALinkIsNotWon"}},
	}
}

// file is what is recorded of a file from tier trace on.
func file(op event.Operation, path string, reason event.Reason, rule string) []Record {
	return []Record{{From: event.TierTrace, Op: op, Path: path, Reason: reason, Rule: rule}}
}

// byName adds the record of a tier in which the kernel refuses a name that nothing has.
func byName(below []Record, op event.Operation, path string) []Record {
	return append(below, Record{From: event.TierLSM, Op: op, Path: path, Reason: event.RuleDenied})
}

func files() []Vector {
	list := []Vector{
		{ID: "read-hidden", Text: "read a hidden file", Try: []string{"open", "$home/.ssh/id"}, Want: "EACCES", Outside: "ok",
			Records: file(event.FileRead, "$home/.ssh/id", event.PathHidden, "")},
		{ID: "read-hidden-by-link", Text: "read it through a link", Try: []string{"open", "$work/to-key"}, Want: "EACCES", Outside: "ok",
			Records: file(event.FileRead, "$home/.ssh/id", event.PathHidden, "")},
		{ID: "read-hidden-by-proc", Text: "read it through /proc/self/root", Try: []string{"open", "/proc/self/root$home/.ssh/id"}, Want: "EACCES", Outside: "ok",
			Records: file(event.FileRead, "$home/.ssh/id", event.PathHidden, "")},
		{ID: "write-outside", Text: "write outside the write roots", Try: []string{"write", "$home/other/file"}, Want: "EROFS", Outside: "ok",
			Records: file(event.FileWrite, "$home/other/file", event.PathReadOnly, "")},
		{ID: "write-by-link", Text: "write outside, through a link", Try: []string{"write", "$work/to-file"}, Want: "EROFS", Outside: "ok",
			Records: file(event.FileWrite, "$home/other/file", event.PathReadOnly, "")},
		{ID: "hard-link-out", Text: "a hard link out of a read-only mount", Try: []string{"link", "$home/other/file", "$work/hard"}, Want: "EXDEV",
			Records: file(event.FileLink, "$home/other/file", event.PathReadOnly, "")},
		{ID: "hard-link-by-descriptor", Text: "the same, by /proc/self/fd", Try: []string{"linkfd", "$home/other/file", "$work/hard"}, Want: "EXDEV",
			Records: file(event.FileLink, "", event.PathReadOnly, "")},
		{ID: "hard-link-protected", Text: "a hard link of a protected file", Try: []string{"link", "$work/.bashrc", "$work/hard"}, Want: "EXDEV",
			Records: file(event.FileLink, "$work/.bashrc", event.PathProtected, "")},
		{ID: "protected-write", Text: "write a protected file", Try: []string{"write", "$work/.bashrc"}, Want: "EROFS", Outside: "ok",
			Records: file(event.FileWrite, "$work/.bashrc", event.PathProtected, "")},
		{ID: "rename-over", Text: "rename another file over a protected one", Try: []string{"rename", "$work/plain", "$work/.bashrc"}, Want: "EBUSY|EACCES",
			Records: file(event.FileRename, "$work/plain", event.PathProtected, "")},
		{ID: "rename-parent", Text: "rename the directory above a protected file, and make another", Try: []string{"rename", "$work/sub", "$work/sub2"}, Want: "EBUSY",
			Records: file(event.FileRename, "$work/sub", event.PathProtected, "")},
		{ID: "exchange-parent", Text: "exchange it with another directory", Try: []string{"exchange", "$work/sub", "$work/alternative"}, Want: "EBUSY",
			Records: file(event.FileRename, "$work/sub", event.PathProtected, "")},
		{ID: "absent-created", Text: "create a protected path that was absent at the start", Try: []string{"make", "$work/absent"}, Want: "EROFS|EACCES",
			Records: byName(file(event.FileWrite, "$work/absent", event.RuleDenied, ""), event.FileCreate, "$work/absent")},
		{ID: "absent-made-directory", Text: "make a directory of that name", Try: []string{"mkdirs", "$work/deep/er/absent"}, Want: "EEXIST|EROFS|EACCES",
			Nothing: "below tier lsm there is a placeholder: that a name is taken is no refusal", Records: byName(nil, event.FileCreate, "$work/deep/er/absent")},
		{ID: "absent-renamed", Text: "rename the parents of an absent one away", Try: []string{"rename", "$work/deep", "$work/away"}, Want: "EBUSY|EACCES",
			Records: file(event.FileRename, "$work/deep", event.RuleDenied, "")},
		{ID: "absent-linked", Text: "put a link in its place", Try: []string{"symlink", "$home/other/file", "$work/absent"}, Want: "EEXIST|EACCES",
			Nothing: "below tier lsm there is a placeholder: that a name is taken is no refusal", Records: byName(nil, event.FileCreate, "$work/absent")},
		{ID: "umount", Text: "take a mask off", Try: []string{"umount", "$work/.bashrc"}, Want: "EPERM", Records: call("umount2", "mount")},
		{ID: "swapped-link", Text: "a link that leads to one's own file and to a protected one in turn, for seconds", Try: []string{"swaplink", "$work/own", "$work/.bashrc", "$long"},
			Want: "EROFS", Records: []Record{{From: event.TierTrace, Op: event.FileWrite, Raced: true}}},
		{ID: "swapped-directory", Text: "a directory that is one's own and a link outside in turn, for seconds", Try: []string{"swapdir", "$work", "$home/other", "$long"},
			Want: "EROFS", Records: []Record{{From: event.TierTrace, Op: event.FileWrite, Raced: true}}},
	}
	for i := range list {
		list[i].Area = Files
		if list[i].Nothing == "" && list[i].Records[0].From > event.TierRootless {
			list[i].Missing = "files:"
		}
	}
	return append(list,
		Vector{ID: "replaced", Text: "a protected or hidden file that the host replaces meanwhile", Area: Files,
			Held: []string{"TestAReplacedProtectedFileIsCoveredAgain", "TestAReplacedSecretIsCoveredAgain", "TestMasksHoldWhenGitAndEditorsReplaceFilesOutside"}},
		Vector{ID: "planted", Text: "a file under a protected name, or a repository that runs something", Area: Files,
			Held: []string{"TestPlantedFilesAreMovedAside", "TestAPlantedRepositoryCannotRunAnything"}},
		Vector{ID: "fifo", Text: "the host's FIFOs", Area: Files, Held: []string{"TestAHostFIFOIsNotWrittenTo"}},
	)
}
