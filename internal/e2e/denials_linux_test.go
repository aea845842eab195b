package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// denials makes a policy with a list of n paths.
func denials(key, format string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "filesystem:\n  %s:\n", key)
	for i := range n {
		fmt.Fprintf(&b, "    - "+format+"\n", i)
	}
	return b.String()
}

// cost is what a run takes by the clock, and of the processor, with all that it
// starts.
func (h *home) cost(policy string) (clock, processor time.Duration) {
	h.t.Helper()
	h.usePolicy(policy)
	cmd := h.command(h.t.Context(), append(h.runArgs(), "true")...)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return time.Since(begun), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// More than bubblewrap takes arguments; and where each mount looked at all
// others, a start would take minutes.
func TestTenThousandDenialsHold(t *testing.T) {
	const n = 10_000
	const far = 10 * time.Second // of the processor: 20 times what it takes
	h := newHome(t)
	h.mkdir("work/many")
	for i := range n {
		name := fmt.Sprintf("%s/many/f%d", h.work, i)
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.own(name)
	}
	m := h.work + "/many"
	for name, c := range map[string]struct {
		policy string
		attack []string
	}{
		"one denial":             {denials("denyRead", "many/f%d", 1), []string{"read " + m + "/f0: EACCES", "read " + m + "/f1: ok"}},
		"of what does not exist": {denials("denyRead", "/nowhere/f%d", n), []string{"read " + m + "/f1: ok"}},
		"hidden": {denials("denyRead", "many/f%d", n), []string{"read " + m + "/f0: EACCES", "read " + m + "/f4711: EACCES", "read " + m + "/f9999: EACCES", "write " + m + "/f9999: EACCES",
			"rename " + m + "/f9999 " + m + "/x: EBUSY", "unlink " + m + "/f17: EBUSY", "umount " + m + "/f17: EPERM", "create " + m + "/new: ok", "unlink " + m + "/new: ok"}},
		"read-only": {denials("denyWrite", "many/f%d", n), []string{"read " + m + "/f0: ok", "write " + m + "/f0: EROFS", "write " + m + "/f4711: EROFS", "write " + m + "/f9999: EROFS",
			"rename " + m + "/f9999 " + m + "/x: EBUSY", "rename " + m + " " + h.work + "/x: EBUSY", "unlink " + m + "/f17: EBUSY", "remount " + m + "/f17: EPERM", "create " + m + "/new: ok",
			"unlink " + m + "/new: ok", "read /run: ok", "create /tmp/x: ok"}},
	} {
		clock, processor := h.cost(c.policy)
		t.Logf("%s: a start and an end take %s, and %s of the processor", name, clock.Round(time.Millisecond), processor)
		if processor > far {
			t.Errorf("%s: a start takes %s of the processor", name, processor)
		}
		h.attack(c.attack...)
	}
}

// Of everything that can be denied, more than is left to bubblewrap.
func TestManyDenialsOfAllKindsHold(t *testing.T) {
	const n = 40
	h := newHome(t)
	for i := range n {
		for _, name := range []string{"ro/file", "rodir/sub/file", "hidden", "hiddendir/file", "plain"} {
			h.write(fmt.Sprintf("work/d%d/%s", i, name), "x")
		}
	}
	mounted := h.mkdir("work/d7/rodir/mounted")
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, "mode=0777"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mounted, unix.MNT_DETACH)
	h.write("work/d7/rodir/mounted/file", "x")
	h.usePolicy(`
filesystem:
  denyWrite: [d*/ro/file, d*/rodir]
  denyRead: [d*/hidden, d*/hiddendir]
`)
	var want []string
	for _, i := range []int{0, 7, n - 1} {
		d := fmt.Sprintf("%s/d%d", h.work, i)
		want = append(want, "read "+d+"/ro/file: ok", "write "+d+"/ro/file: EROFS", "unlink "+d+"/ro/file: EBUSY", "rename "+d+"/ro "+d+"/x: EBUSY", "rename "+d+" "+h.work+"/x: EBUSY",
			"create "+d+"/ro/new: ok", "read "+d+"/rodir/sub/file: ok", "write "+d+"/rodir/sub/file: EROFS", "create "+d+"/rodir/new: EROFS", "rename "+d+"/rodir "+d+"/x: EBUSY",
			"read "+d+"/hidden: EACCES", "write "+d+"/hidden: EACCES", "read "+d+"/hiddendir: EACCES", "read "+d+"/hiddendir/file: EACCES", "create "+d+"/hiddendir/new: EACCES", "chmod "+d+"/hiddendir: EROFS",
			"umount "+d+"/hiddendir: EPERM", "write "+d+"/plain: ok", "create "+d+"/new: ok")
	}
	h.attack(append(want, "write "+mounted+"/file: EROFS", "create "+mounted+"/new: EROFS", "create /tmp/x: ok", "create /run/x: ok")...)
	// They are kept like all others.
	const one = "work/d3/ro/file"
	h.replaced(h.dir+"/"+one, "write", 10, func(i int) { h.atomically(one, fmt.Sprint(i)) })
	if !slices.Contains(h.tampered(), h.dir+"/"+one) {
		t.Error("that a file was replaced is not in the record")
	}
	if got := h.read(one); got != "9" {
		t.Errorf("the file holds %q", got)
	}
}
