package sandbox

import (
	"slices"
	"strings"
	"testing"
)

func TestOnlyPathsOfUnixAddressesLeadToFiles(t *testing.T) {
	unix := string([]byte{1, 0})
	for name, test := range map[string]struct {
		addr, want string
		isPath     bool
	}{
		"path":                     {unix + "/run/x\x00", "/run/x", true},
		"path without its end":     {unix + "/run/x", "/run/x", true},
		"what follows the end":     {unix + "/run/x\x00/etc", "/run/x", true},
		"relative":                 {unix + "x", "x", true},
		"the longest":              {unix + strings.Repeat("a", 108), strings.Repeat("a", 108), true},
		"too long for the kernel":  {unix + strings.Repeat("a", 109), "", false},
		"abstract":                 {unix + "\x00/run/x", "", false},
		"unnamed":                  {unix, "", false},
		"nothing":                  {"", "", false},
		"half a family":            {"\x01", "", false},
		"another family":           {"\x02\x00/run/x", "", false},
		"another family, the high": {"\x01\x01/run/x", "", false},
	} {
		if got, ok := unixPath([]byte(test.addr)); got != test.want || ok != test.isPath {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}

func TestOnlyTheKernelIsAPlainNetlinkAddress(t *testing.T) {
	for addr, want := range map[string]bool{
		"": true, "\x10\x00": true, "\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": true, "\x10\x00\xff\xff\x00\x00\x00\x00": true,
		"\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00": false, "\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80": false,
	} {
		if plainNetlink([]byte(addr)) != want {
			t.Errorf("%q: not %v", addr, want)
		}
	}
}

const unixTable = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 26214 /run/listens
0000000000000000: 00000002 00000000 00010000 0005 01 26215 with a space
0000000000000000: 00000003 00000000 00000000 0001 03 26216 /run/connected
0000000000000000: 00000002 00000000 00010000 0001 01 26217 @abstract
0000000000000000: 00000002 00000000 00010000 0001 01 26218
0000000000000000: 00000002 00000000 00000000 0001 01 26219 /run/not-listening
`

func TestSocketsThatAreBoundToAPathAreFound(t *testing.T) {
	found := boundSockets(unixTable)
	var inodes []uint64
	for i := range found {
		inodes = append(inodes, i)
	}
	slices.Sort(inodes)
	if !slices.Equal(inodes, []uint64{26214, 26215, 26219}) {
		t.Errorf("%v", inodes)
	}
}

func FuzzUnixTable(f *testing.F) {
	f.Add(unixTable)
	f.Add("0: 2 0 00010000 0001 01 1 /a\n0: 2 0 00010000 0001 01 2 /b")
	f.Add("0: 2 0 ffffffffffffffff 0001 01 18446744073709551616 /a")
	f.Fuzz(func(t *testing.T, table string) {
		if n := len(boundSockets(table)); n > strings.Count(table, "\n")+1 {
			t.Errorf("%d sockets in %q", n, table)
		}
	})
}

func FuzzUnixAddress(f *testing.F) {
	f.Add([]byte("\x01\x00/run/x\x00"))
	f.Add([]byte("\x01\x00\x00abstract"))
	f.Add([]byte("\x02\x00\x00\x50\x7f\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, addr []byte) {
		path, ok := unixPath(addr)
		if ok != (path != "") || strings.ContainsRune(path, 0) {
			t.Errorf("%q: %q, %v", addr, path, ok)
		}
		if again, _ := unixPath(unixAddress(path)); ok && again != path {
			t.Errorf("%q becomes %q", path, again)
		}
	})
}
