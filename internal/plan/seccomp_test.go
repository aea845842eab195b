package plan

import (
	"testing"
)

func TestSeccompListing(t *testing.T) {
	golden(t, "seccomp.txt", DefaultSeccomp().String())
}

func TestSeccompDecide(t *testing.T) {
	const junk = uint64(0xdeadbeef) << 32
	both := []Arch{ArchAMD64, ArchARM64}
	for name, test := range map[string]struct {
		arches []Arch
		call   string
		args   [6]uint64
		want   string // rule and errno; empty: passes
	}{
		"tcp4":                    {both, "socket", [6]uint64{2, 1, 0}, ""},
		"tcp6, cloexec, by name":  {both, "socket", [6]uint64{10, 1 | 0x80000, 6}, ""},
		"mptcp":                   {both, "socket", [6]uint64{2, 1, 262}, ""},
		"udp, non-blocking":       {both, "socket", [6]uint64{10, 2 | 0x800, 17}, ""},
		"ping4":                   {both, "socket", [6]uint64{2, 2, 1}, ""},
		"ping6":                   {both, "socket", [6]uint64{10, 2, 58}, ""},
		"route netlink, raw":      {both, "socket", [6]uint64{16, 3, 0}, ""},
		"junk above tcp4":         {both, "socket", [6]uint64{2 | junk, 1 | junk, junk}, ""},
		"ping4 on IPv6":           {both, "socket", [6]uint64{10, 2, 1}, "socket-family EACCES"},
		"sctp":                    {both, "socket", [6]uint64{2, 1, 132}, "socket-family EACCES"},
		"sctp, sequenced":         {both, "socket", [6]uint64{2, 5, 132}, "socket-family EACCES"},
		"smc":                     {both, "socket", [6]uint64{2, 1, 256}, "socket-family EACCES"},
		"udp-lite":                {both, "socket", [6]uint64{10, 2, 136}, "socket-family EACCES"},
		"dccp":                    {both, "socket", [6]uint64{2, 6, 33}, "socket-family EACCES"},
		"raw":                     {both, "socket", [6]uint64{2, 3, 17}, "socket-family EACCES"},
		"packet by its old name":  {both, "socket", [6]uint64{2, 10, 0x300}, "socket-family EACCES"},
		"packet":                  {both, "socket", [6]uint64{17, 3, 0}, "socket-family EACCES"},
		"unix stream":             {both, "socket", [6]uint64{1, 1 | 0x80800, 0}, ""},
		"unix seqpacket":          {both, "socket", [6]uint64{1, 5, 1}, ""},
		"unix datagram":           {both, "socket", [6]uint64{1, 2, 0}, "socket-family EACCES"},
		"unix datagram, as raw":   {both, "socket", [6]uint64{1, 3, 0}, "socket-family EACCES"},
		"connect":                 {both, "connect", [6]uint64{3, 0, 16}, "supervised connect EACCES"},
		"vsock":                   {both, "socket", [6]uint64{40, 1, 0}, "socket-family EACCES"},
		"junk above vsock":        {both, "socket", [6]uint64{40 | junk, 1, 0}, "socket-family EACCES"},
		"alg":                     {both, "socket", [6]uint64{38, 5, 0}, "socket-family EACCES"},
		"family 0":                {both, "socket", [6]uint64{}, "socket-family EACCES"},
		"netfilter netlink":       {both, "socket", [6]uint64{16, 3, 12}, "socket-family EACCES"},
		"route netlink, stream":   {both, "socket", [6]uint64{16, 1, 0}, "socket-family EACCES"},
		"stream pair":             {both, "socketpair", [6]uint64{1, 1 | 0x80800, 0}, ""},
		"seqpacket pair":          {both, "socketpair", [6]uint64{1, 5, 0}, ""},
		"datagram pair":           {both, "socketpair", [6]uint64{1, 2, 0}, "socketpair-family EACCES"},
		"raw pair":                {both, "socketpair", [6]uint64{1, 3, 0}, "socketpair-family EACCES"},
		"tipc pair":               {both, "socketpair", [6]uint64{30, 1, 0}, "socketpair-family EACCES"},
		"fork":                    {both, "clone", [6]uint64{0x01200011}, ""},
		"thread":                  {both, "clone", [6]uint64{0x003d0f00}, ""},
		"clone, new user":         {both, "clone", [6]uint64{0x10000011}, "namespaces EPERM"},
		"clone, new net, junk":    {both, "clone", [6]uint64{0x40000011 | junk}, "namespaces EPERM"},
		"clone3":                  {both, "clone3", [6]uint64{}, "clone3 ENOSYS"},
		"unshare files":           {both, "unshare", [6]uint64{0x600}, ""},
		"unshare mounts":          {both, "unshare", [6]uint64{0x20000}, "namespaces EPERM"},
		"unshare user, junk":      {both, "unshare", [6]uint64{0x10000000 | junk}, "namespaces EPERM"},
		"unshare time":            {both, "unshare", [6]uint64{0x80}, "namespaces EPERM"},
		"unshare the unheard-of":  {both, "unshare", [6]uint64{0x100000}, "namespaces EPERM"},
		"setns":                   {both, "setns", [6]uint64{}, "namespaces EPERM"},
		"fcntl, record lock":      {both, "fcntl", [6]uint64{0, 6}, ""},
		"fcntl, lease":            {both, "fcntl", [6]uint64{0, 1024 | junk}, "lease EPERM"},
		"fcntl, get lease":        {both, "fcntl", [6]uint64{0, 1025}, ""},
		"fcntl, delegation":       {both, "fcntl", [6]uint64{0, 1040}, "lease EPERM"},
		"ioctl, window size":      {both, "ioctl", [6]uint64{0, 0x5413}, ""},
		"ioctl, type in":          {both, "ioctl", [6]uint64{0, 0x5412}, "terminal EPERM"},
		"ioctl, type in, junk":    {both, "ioctl", [6]uint64{0, 0x5412 | junk}, "terminal EPERM"},
		"ioctl, line discipline":  {both, "ioctl", [6]uint64{0, 0x5423}, "terminal EPERM"},
		"io_uring":                {both, "io_uring_setup", [6]uint64{}, "io_uring EPERM"},
		"a port's permission":     {[]Arch{ArchAMD64}, "ioperm", [6]uint64{}, "machine EPERM"},
		"open by handle, no name": {both, "open_by_handle_at", [6]uint64{}, "file-handle EPERM"},
	} {
		for _, a := range test.arches {
			nr, ok := a.Syscall(test.call)
			if !ok {
				t.Fatalf("%s: no number", name)
			}
			if got := answer(DefaultSeccomp().Decide(a, a.Audit(), nr, test.args)); got != test.want {
				t.Errorf("%s on %d: %q, want %q", name, a, got, test.want)
			}
		}
	}
}

func answer(r Refusal, refused bool) string {
	if !refused {
		return ""
	}
	if r.Supervised {
		return "supervised " + r.Rule + " " + r.Errno.String()
	}
	return r.Rule + " " + r.Errno.String()
}

func TestOpenUnixSocketsAreNotSupervised(t *testing.T) {
	s := openUnixSeccomp()
	for _, call := range []struct {
		name string
		args [6]uint64
		want string
	}{
		{"connect", [6]uint64{}, ""},
		{"socket", [6]uint64{1, 2, 0}, ""},
		{"socketpair", [6]uint64{1, 2, 0}, ""},
		{"socket", [6]uint64{2, 1, 0}, ""},
		{"socket", [6]uint64{40, 1, 0}, "socket-family EACCES"},
		{"socketpair", [6]uint64{30, 1, 0}, "socketpair-family EACCES"},
		{"setns", [6]uint64{}, "namespaces EPERM"},
	} {
		nr, _ := ArchAMD64.Syscall(call.name)
		if got := answer(s.Decide(ArchAMD64, ArchAMD64.Audit(), nr, call.args)); got != call.want {
			t.Errorf("%s %v: %q, want %q", call.name, call.args, got, call.want)
		}
	}
}

func TestSeccompDecidesByNumberAndArchitecture(t *testing.T) {
	amd64, arm64 := ArchAMD64.Audit(), ArchARM64.Audit()
	for name, test := range map[string]struct {
		native    Arch
		audit, nr uint32
		want      string
	}{
		"getpid":               {ArchAMD64, amd64, 39, ""},
		"arm64's umount2 here": {ArchAMD64, amd64, 39, ""},
		"arm64 umount2":        {ArchARM64, arm64, 39, "mount EPERM"},
		"i386":                 {ArchAMD64, 0x40000003, 39, "foreign-arch ENOSYS"},
		"arm":                  {ArchARM64, 0x40000028, 39, "foreign-arch ENOSYS"},
		"arm64 on amd64":       {ArchAMD64, arm64, 39, "foreign-arch ENOSYS"},
		"no architecture":      {ArchInvalid, 0, 39, "foreign-arch ENOSYS"},
		"x32":                  {ArchAMD64, amd64, X32Bit | 39, "x32 ENOSYS"},
		"-1":                   {ArchAMD64, amd64, ^uint32(0), "x32 ENOSYS"},
		"x32 bit on arm64":     {ArchARM64, arm64, X32Bit | 39, "newer ENOSYS"},
		"the newest":           {ArchAMD64, amd64, 471, ""},
		"after the newest":     {ArchAMD64, amd64, 472, "newer ENOSYS"},
	} {
		if got := answer(DefaultSeccomp().Decide(test.native, test.audit, test.nr, [6]uint64{})); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestZeroSeccompRefusesEveryNumberButZero(t *testing.T) {
	if _, refused := (Seccomp{}).Decide(ArchAMD64, ArchAMD64.Audit(), 1, [6]uint64{}); !refused {
		t.Error("a filter without a table lets write pass")
	}
}

// A call in two rules would be decided by the first alone.
func TestEveryCallHasOneRuleAndANumber(t *testing.T) {
	seen := map[string]string{}
	for _, r := range DefaultSeccomp().Rules {
		if r.Errno == 0 || r.Name == "" || len(r.Calls) == 0 || r.Unless != nil && r.Only != nil {
			t.Errorf("rule %+v", r)
		}
		for _, call := range r.Calls {
			if other, dup := seen[call]; dup {
				t.Errorf("%s is in %s and %s", call, other, r.Name)
			}
			seen[call] = r.Name
			if _, ok := ArchAMD64.Syscall(call); !ok {
				t.Errorf("%s has no number", call)
			}
		}
	}
	if len(seen) != len(syscalls) {
		t.Errorf("%d calls in rules, %d with numbers", len(seen), len(syscalls))
	}
}

func TestUnsupportedArchitectureIsAnError(t *testing.T) {
	for goarch, want := range map[string]Arch{"amd64": ArchAMD64, "arm64": ArchARM64, "386": ArchInvalid, "riscv64": ArchInvalid, "": ArchInvalid} {
		got, err := ParseArch(goarch)
		if got != want || (err == nil) != (want != ArchInvalid) {
			t.Errorf("%q: %d, %v", goarch, got, err)
		}
	}
}
