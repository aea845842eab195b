package sandbox

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openFile(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStreamKind(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l, err := net.Listen("unix", dir+"/sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sock, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	closed := openFile(t, os.DevNull, os.O_RDONLY)
	closed.Close()
	for name, test := range map[string]struct {
		f    *os.File
		kind uint32
		err  string // empty: passes
	}{
		"a file":                {openFile(t, dir+"/f", os.O_RDWR|os.O_CREATE), unix.S_IFREG, ""},
		"a pipe":                {r, unix.S_IFIFO, ""},
		"a device":              {openFile(t, os.DevNull, os.O_RDWR), unix.S_IFCHR, ""},
		"a socket":              {sock, unix.S_IFSOCK, ""},
		"a directory":           {openFile(t, dir, os.O_RDONLY), 0, "standard input is a directory"},
		"an O_PATH file":        {openFile(t, dir+"/f", unix.O_PATH), 0, "standard input is an O_PATH descriptor"},
		"an O_PATH directory":   {openFile(t, dir, unix.O_PATH|unix.O_DIRECTORY), 0, "O_PATH"},
		"a closed one":          {closed, 0, "standard input is closed"},
		"a file opened to read": {openFile(t, dir+"/f", os.O_RDONLY), unix.S_IFREG, ""},
	} {
		kind, err := streamKind(0, test.f)
		if kind != test.kind || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: kind %o, %v", name, kind, err)
		}
	}
}

func TestRelayCopiesEverythingBothWays(t *testing.T) {
	dir := t.TempDir()
	want := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // more than a pipe holds
	if err := os.WriteFile(filepath.Join(dir, "in"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	out := openFile(t, filepath.Join(dir, "out"), os.O_RDWR|os.O_CREATE)
	r := &relay{}
	in, err := r.add(openFile(t, filepath.Join(dir, "in"), os.O_RDONLY), true)
	if err != nil {
		t.Fatal(err)
	}
	to, err := r.add(out, false)
	if err != nil {
		t.Fatal(err)
	}
	// The payload has copies of its ends, as a child process would.
	in, to = dup(t, in), dup(t, to)
	r.start()
	if n, err := io.Copy(to, in); err != nil || n != int64(len(want)) {
		t.Errorf("copied %d of %d: %v", n, len(want), err)
	}
	to.Close()
	r.wait() // returns only when the last byte is there
	if got, err := os.ReadFile(out.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d: %v", len(got), len(want), err)
	}
	r.close()
}

func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { d.Close() })
	return d
}

func TestARelayThatNeverStartedDoesNotBlock(t *testing.T) {
	r := &relay{}
	if _, err := r.add(openFile(t, os.DevNull, os.O_RDWR), false); err != nil {
		t.Fatal(err)
	}
	r.wait()
	r.close()
	var none *relay
	none.wait()
	none.close()
}
