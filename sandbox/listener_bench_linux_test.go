package sandbox

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// benchmarkSupervised runs f on a filtered thread.
func benchmarkSupervised(b *testing.B, f func()) {
	if os.Getuid() != 0 {
		b.Skip("the benchmark's network namespace must be the user's own")
	}
	s, err := supervise(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, allowAll)
	if err != nil {
		b.Fatal(err)
	}
	s.emit = func(event.Event) {}
	s.do(func() {
		for b.Loop() {
			f()
		}
	})
	close(s.calls)
}

func BenchmarkRefusedCall(b *testing.B) {
	benchmarkSupervised(b, func() { _, _, _ = unix.Syscall(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0) })
}

// BenchmarkConnect makes a socket, connects it and closes it.
func BenchmarkConnect(b *testing.B) {
	dir := b.TempDir()
	port, err := listenAll(dir)
	if err != nil {
		b.Fatal(err)
	}
	inet := []byte{2, 0, byte(port >> 8), byte(port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		name         string
		family, kind int
		addr         []byte
	}{
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, inet},
		{"tcp-nonblocking", unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, inet},
		{"udp", unix.AF_INET, unix.SOCK_DGRAM, inet},
		{"abstract", unix.AF_UNIX, unix.SOCK_STREAM, []byte("\x01\x00\x00e2e")},
		{"path", unix.AF_UNIX, unix.SOCK_STREAM, unixAddress(dir + "/stream")},
	} {
		one := func() {
			fd, err := unix.Socket(c.family, c.kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			if errno := rawConnect(fd, c.addr); errno != 0 && errno != unix.EINPROGRESS {
				b.Fatal(errno)
			}
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
			unix.Close(fd)
		}
		b.Run(c.name+"/bare", func(b *testing.B) {
			for b.Loop() {
				one()
			}
		})
		b.Run(c.name+"/supervised", func(b *testing.B) { benchmarkSupervised(b, one) })
	}
}
