package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestARefusalThatItsCallerHasNotHeardOfIsRecordedOnce(t *testing.T) {
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock)
	var r redone
	call := func(args uint64) *connecting {
		c := &connecting{sock: sock}
		c.tid, c.args = 7, [6]uint64{args}
		return c
	}
	if r.told(call(1)) {
		t.Error("nothing was told, and nobody has had a turn")
	}
	turn := r.enter(7)
	defer r.leave(7, turn)
	r.tell(call(1))
	if r.told(call(2)) {
		t.Error("another call is taken for its repetition")
	}
	r.tell(call(1))
	if !r.told(call(1)) {
		t.Error("its repetition is not known")
	}
	if r.told(call(1)) {
		t.Error("one repetition passes for two")
	}
}
