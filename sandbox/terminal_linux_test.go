package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox/stage2"
)

// newPTY makes a pseudo terminal. The master can be closed while it is read.
func newPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "master")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, openFile(t, fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY)
}

func mode(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// has reads until a text has come.
func has(t *testing.T, f *os.File, want string) {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got []byte
	for buf := make([]byte, 4096); !bytes.Contains(got, []byte(want)); {
		n, err := f.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("%q has not come, but %q: %v", want, got, err)
		}
	}
}

func TestFindTerminalLooksAtEachStream(t *testing.T) {
	_, tty := newPTY(t)
	null, in := openFile(t, os.DevNull, os.O_RDWR), openFile(t, tty.Name(), os.O_RDONLY|unix.O_NOCTTY)
	out := openFile(t, tty.Name(), os.O_WRONLY|unix.O_NOCTTY)
	for name, test := range map[string]struct {
		files   [3]*os.File
		want    string
		eager   bool
		in, out *os.File
	}{
		"none":           {files: [3]*os.File{null, null, null}},
		"all":            {[3]*os.File{tty, tty, tty}, "[true true true]", true, tty, tty},
		"one each way":   {[3]*os.File{in, out, null}, "[true true false]", true, in, out},
		"the last alone": {[3]*os.File{null, null, tty}, "[false false true]", false, tty, tty},
		"a pipeline":     {[3]*os.File{tty, null, tty}, "[true false true]", false, tty, tty},
	} {
		got, err := findTerminal(test.files)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil || test.want == "" {
			if got != nil || test.want != "" {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		if fmt.Sprint(got.streams) != test.want || got.eager != test.eager || got.in != test.in || got.out != test.out {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// joined is a terminal whose other side is one, too.
func joined(t *testing.T) (term *terminal, user, caller, inside *os.File) {
	t.Helper()
	user, caller = newPTY(t)
	master, inside := newPTY(t)
	term, err := findTerminal([3]*os.File{caller, caller, caller})
	if err != nil {
		t.Fatal(err)
	}
	term.config()
	if err := term.adopt(dupFD(t, master)); err != nil {
		t.Fatal(err)
	}
	return term, user, caller, inside
}

func dupFD(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return fd
}

func TestATerminalIsRawWhileItIsHeld(t *testing.T) {
	term, user, caller, inside := joined(t)
	before := mode(t, caller)
	if _, err := user.WriteString("early\r\x04"); err != nil { // a line and an end of input
		t.Fatal(err)
	}
	if err := term.start(func() { t.Error("lost") }); err != nil {
		t.Fatal(err)
	}
	if now := mode(t, caller); now.Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) != 0 || now.Oflag&unix.OPOST != 0 {
		t.Errorf("held, and set to %+v", now)
	}
	buf := make([]byte, 100)
	for _, want := range []string{"early\n", ""} {
		if n, err := inside.Read(buf); string(buf[:n]) != want || err != nil && err != io.EOF {
			t.Errorf("read %q, want %q: %v", buf[:n], want, err)
		}
	}
	if _, err := inside.WriteString("shown\n"); err != nil {
		t.Fatal(err)
	}
	has(t, user, "shown\r\n")
	for range 3 {
		term.give()
		term.give()
		if now := mode(t, caller); now != before {
			t.Errorf("given back as %+v, was %+v", now, before)
		}
		if err := term.take(); err != nil {
			t.Fatal(err)
		}
	}
	user.WriteString("late\r")
	if n, err := inside.Read(buf); string(buf[:n]) != "late\n" {
		t.Errorf("read %q: %v", buf[:n], err)
	}
	inside.WriteString(strings.Repeat("x", 3000) + "end")
	inside.Close()
	term.wait() // returns when the last byte has been shown
	has(t, user, "xend")
	if now := mode(t, caller); now != before {
		t.Errorf("left as %+v, was %+v", now, before)
	}
	term.close()
}

func TestATerminalThatGoesAwayIsToldOf(t *testing.T) {
	term, user, _, inside := joined(t)
	lost := make(chan struct{})
	if err := term.start(func() { close(lost) }); err != nil {
		t.Fatal(err)
	}
	user.Close()
	<-lost
	for range 100 { // the payload is not held up
		if _, err := inside.WriteString(strings.Repeat("unseen\n", 500)); err != nil {
			t.Fatal(err)
		}
	}
	inside.Close()
	term.wait()
	term.close()
}

func TestAPayloadThatReadsNothingDoesNotHoldTheTerminal(t *testing.T) {
	term, user, caller, _ := joined(t)
	before := mode(t, caller)
	if err := term.start(func() {}); err != nil {
		t.Fatal(err)
	}
	_ = user.SetWriteDeadline(time.Now().Add(time.Second)) // until everything on the way is full
	for b := bytes.Repeat([]byte("typed\r"), 5000); ; {
		if _, err := user.Write(b); err != nil {
			break
		}
	}
	start := time.Now()
	term.give()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s to give the terminal back", took)
	}
	if now := mode(t, caller); now != before {
		t.Errorf("left as %+v, was %+v", now, before)
	}
	term.close()
}

func TestWithoutItsOtherSideATerminalIsNotUsed(t *testing.T) {
	term, _, _, _ := joined(t)
	if err := term.adopt(-1); err == nil || !strings.Contains(err.Error(), "make a terminal") {
		t.Errorf("no descriptor came: %v", err)
	}
	var none *terminal
	if err := none.adopt(int(openFile(t, os.DevNull, os.O_RDWR).Fd())); err == nil {
		t.Error("a descriptor that nobody asked for is taken")
	}
	if err := none.adopt(-1); err != nil || none.config() != nil || none.start(nil) != nil {
		t.Errorf("without a terminal: %v", err)
	}
	none.give()
	none.wait()
	none.close()
}

func TestDescriptorsComeWithTheirMessages(t *testing.T) {
	ours, theirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	r := stage2.NewRights(ours)
	defer r.Close()
	for _, word := range []string{"one", "two"} {
		f := openFile(t, t.TempDir()+"/"+word, os.O_RDWR|os.O_CREATE)
		f.WriteString(word)
		if err := stage2.SendWith(theirs, word, int(f.Fd())); err != nil {
			t.Fatal(err)
		}
	}
	theirs.Close()
	if all, err := io.ReadAll(r); string(all) != "\"one\"\n\"two\"\n" {
		t.Errorf("read %q, %v", all, err)
	}
	for _, word := range []string{"one", "two"} {
		f := os.NewFile(uintptr(r.Take()), word)
		if f == nil {
			t.Fatalf("no descriptor for %s", word)
		}
		buf := make([]byte, 10)
		if n, _ := f.ReadAt(buf, 0); string(buf[:n]) != word {
			t.Errorf("the descriptor for %s has %q", word, buf[:n])
		}
		f.Close()
	}
	if r.Take() != -1 {
		t.Error("there is a third")
	}
}

func TestLineEndsAreAddedOnce(t *testing.T) {
	_, caller := newPTY(t)
	term, err := findTerminal([3]*os.File{caller, caller, caller})
	if err != nil {
		t.Fatal(err)
	}
	if got := term.lineEnds([]byte("a\r\nb\rc\n")); string(got) != "a\nb\rc\n" {
		t.Errorf("the terminal adds them: %q", got)
	}
	if err := term.raw(); err != nil {
		t.Fatal(err)
	}
	if got := term.lineEnds([]byte("a\r\nb")); string(got) != "a\r\nb" {
		t.Errorf("it is raw: %q", got)
	}
}
