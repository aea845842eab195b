package sandbox

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// socketElsewhere makes a socket in a network namespace of its own.
func socketElsewhere(t *testing.T) int {
	t.Helper()
	fds := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fds <- -1
			return
		}
		fds <- socketHere(t)
	}()
	fd := <-fds
	if fd < 0 {
		t.Fatal("no network namespace")
	}
	return fd
}

func socketHere(t *testing.T) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return -1
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestSocketsOfAnotherNetworkNamespaceAreTold(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only who administers a network namespace may ask for it")
	}
	ino, err := netnsOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	here, there := socketHere(t), socketElsewhere(t)
	n := &netns{ino: ino}
	if n.has(there) {
		t.Error("one of another namespace, before the cookie is known")
	}
	for _, sock := range []int{here, here, socketHere(t)} { // the first is asked for more than the others
		if !n.has(sock) {
			t.Error("not one of this namespace")
		}
	}
	if n.has(there) {
		t.Error("one of another namespace")
	}
	if n.cookie.Load() == 0 && !olderThan(5, 14) {
		t.Error("the cookie is not known")
	}
	if n.has(-1) {
		t.Error("what is no socket")
	}
}
