package sandbox

import (
	"os/exec"
	"testing"
)

func TestAThreadThatHasEndedLooksLikeNone(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	thread, err := openThread(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer thread.close()
	var buf statBuffer
	if thread.look(&buf) == (look{}) {
		t.Error("one that lives looks like none")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := thread.look(&buf); got != (look{}) {
		t.Errorf("one that has ended: %+v", got)
	}
	if _, err := openThread(cmd.Process.Pid); err == nil {
		t.Error("opened one that has ended")
	}
}
