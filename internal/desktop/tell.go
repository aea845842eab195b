package desktop

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/proxy/ask"
)

// quiet is how long denials are gathered before the notification changes: many at
// once must not flood the desktop.
const quiet = 2 * time.Second

// Tell shows denials as they happen, in one notification that grows, until stop
// is called.
func Tell(b *ask.Broker, bus *Bus) (stop func()) {
	t := &teller{bus: bus, w: b.Watch(false, true), quit: make(chan struct{}), ended: make(chan struct{})}
	go t.run()
	return func() {
		close(t.quit)
		<-t.ended
		t.w.Stop()
	}
}

type teller struct {
	bus   *Bus
	w     *ask.Watcher
	quit  chan struct{}
	ended chan struct{}
	id    uint32
	first string
	count uint64
	told  uint64 // of count
}

func (t *teller) run() {
	defer close(t.ended)
	var later <-chan time.Time
	for {
		select {
		case <-t.quit:
			t.gather()
			t.show()
			return
		case <-t.w.C:
			t.gather()
			if later == nil && t.count > t.told {
				t.show() // the first at once
				later = time.After(quiet)
			}
		case <-later:
			later = nil
			if t.count > t.told {
				t.show()
				later = time.After(quiet)
			}
		}
	}
}

func (t *teller) gather() {
	events, lost := t.w.Events()
	t.count += lost
	for _, e := range events {
		if !e.Verdict.Denied() || e.Reason == event.System {
			continue
		}
		if t.count += max(e.Count, 1); t.first == "" || t.count > t.told {
			t.first = sentence(e)
		}
	}
}

func (t *teller) show() {
	if t.count == t.told {
		return
	}
	n := Note{Summary: "sallyport: denied", Body: clean(t.first), Replaces: t.id, Expire: 10 * time.Second}
	if t.count > 1 {
		n.Summary = fmt.Sprintf("sallyport: denied %d times", t.count)
	}
	if id, err := t.bus.Show(n); err == nil {
		t.id = id
	}
	t.told = t.count
}

// sentence says what was refused to whom.
func sentence(e event.Event) string {
	what := short(string(e.Object.Path))
	switch {
	case e.Object.Host != "":
		what = ask.Show(short(string(e.Object.Host)))
	case e.Object.Addr != "":
		what = e.Object.Addr
	case what == "":
		what = e.Object.Syscall + e.Object.Socket
	}
	if e.Object.Port != 0 {
		what += fmt.Sprintf(" port %d", e.Object.Port)
	}
	who := ""
	if e.Process != nil {
		who = short(string(e.Process.Comm)) + ": "
	}
	return fmt.Sprintf("%s%s %s (%s)", who, e.Operation, what, e.Reason)
}
