package loader

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// withRoot is a sandbox whose paths are resolved in the host's own file system.
func withRoot(t *testing.T) (b *testBox, d, self string) {
	b, d, self = whoWorld(t)
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.w.l.Start(b.Info.ID, root); err != nil {
		t.Fatal(err)
	}
	return b, d, self
}

func TestLinksAreFollowedToWhatWasRefused(t *testing.T) {
	b, d, _ := withRoot(t)
	for link, to := range map[string]string{"own/file": d + "/closed.txt", "own/folder": d + "/ro/d", "own/loop": "loop"} {
		if err := os.Symlink(to, d+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(d+"/closed.txt", &st); err != nil {
		t.Fatal(err)
	}
	inode := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for _, tt := range []struct {
		script, path, devIno string
		op                   event.Operation
	}{
		{"cat own/file", d + "/closed.txt", inode, event.FileRead},
		{"cat own/folder/../../closed.txt", d + "/closed.txt", inode, event.FileRead},
		{"echo > closed.txt", d + "/closed.txt", inode, event.FileWrite},
		{"echo > own/folder/new", d + "/ro/d/new", "", event.FileCreate},
		{"mkdir own/folder/new", d + "/ro/d/new", "", event.FileCreate},
		{"rm -f own/folder/../f", d + "/ro/f", "", event.FileDelete},
	} {
		t.Run(tt.script, func(t *testing.T) {
			before := len(b.records())
			cmd := nobody(b.command("/bin/sh", "-c", tt.script))
			cmd.Dir, cmd.Stderr = d, nil
			if err := cmd.Run(); err == nil {
				t.Fatal("nothing was refused")
			}
			for _, r := range b.records()[before:] {
				o := r.Event.Object
				if string(o.Path) == tt.path && r.Event.Operation == tt.op && (tt.devIno == "" || o.DevIno == tt.devIno) && o.PathSource == "user" {
					return
				}
			}
			t.Errorf("no record of %v upon %s %s in %+v", tt.op, tt.path, tt.devIno, b.records()[before:])
		})
	}
}

func TestTheCanaryIsRecognisedAndNotCounted(t *testing.T) {
	d := makeCorpusDir(t)
	w := newWorld(t, Options{})
	rules := everything
	rules.Canary = d + "/closed/canary"
	b := w.add(rules)
	b.run(t, copySelf(t, d, "program"), "look", rules.Canary)
	list := b.under(rules.Canary)
	if len(list) != 1 || !list[0].Canary || list[0].Event.Verdict != event.Audit {
		t.Errorf("records %+v", list)
	}
	b.w.mu.Lock()
	others := uint64(0)
	for _, r := range b.w.seen {
		if !r.Canary && r.Event.Operation == event.FileRead {
			others += r.Event.Count
		}
	}
	b.w.mu.Unlock()
	if c, err := w.l.Counters(); err != nil || c.Seen[event.FileRead] != others {
		t.Errorf("%d counted, %v; want %d", c.Seen[event.FileRead], err, others)
	}
}
