package desktop

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/proxy/ask"
)

// mostNotes is how many questions are shown at once.
const mostNotes = 3

// asker shows open questions as notifications.
type asker struct {
	b     *ask.Broker
	bus   *Bus
	w     *ask.Watcher
	quit  chan struct{}
	ended chan struct{}
	shown map[string]uint32 // by request
	// left are requests that the user has put aside: not shown again.
	mu   sync.Mutex
	left map[string]bool
}

// Ask shows the broker's questions until stop is called.
func Ask(b *ask.Broker, bus *Bus) (stop func(), err error) {
	if !bus.CanAsk() {
		return nil, ErrNoActions
	}
	a := &asker{b: b, bus: bus, w: b.Watch(true, false), quit: make(chan struct{}), ended: make(chan struct{}),
		shown: map[string]uint32{}, left: map[string]bool{}}
	bus.OnGone(func() { a.w.Absent(false) })
	go a.run()
	return func() {
		close(a.quit)
		<-a.ended
		a.w.Stop()
	}, nil
}

func (a *asker) run() {
	defer close(a.ended)
	for {
		a.update()
		select {
		case <-a.quit:
			for _, id := range a.shown {
				a.bus.Hide(id)
			}
			return
		case <-a.w.C:
		}
	}
}

// update takes away what is over and shows what is new.
func (a *asker) update() {
	pending := a.b.Pending()
	open := map[string]bool{}
	for _, r := range pending {
		open[r.ID] = true
	}
	for request, id := range a.shown {
		if !open[request] {
			delete(a.shown, request)
			a.bus.Hide(id)
		}
	}
	for _, r := range pending {
		if _, ok := a.shown[r.ID]; ok || a.isLeft(r.ID) || a.visible() >= mostNotes {
			continue
		}
		id, err := a.bus.Show(a.note(r))
		if err != nil {
			a.w.Absent(false) // nobody sees it
			return
		}
		a.shown[r.ID] = id
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for request := range a.left {
		if !open[request] {
			delete(a.left, request)
		}
	}
}

func (a *asker) isLeft(request string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left[request]
}

// visible counts what is shown and was not put aside.
func (a *asker) visible() int {
	n := 0
	for request := range a.shown {
		if !a.isLeft(request) {
			n++
		}
	}
	return n
}

func (a *asker) note(r ask.Request) Note {
	n := Note{
		Summary: clean(fmt.Sprintf("Allow %s port %d?", r.Shown, r.Port)), Body: body(r), Urgent: true,
		Keys: []string{"once", "session", "deny"}, Labels: []string{"Once", "This run", "Deny"},
		Expire: max(time.Until(r.Deadline), time.Second),
	}
	if a.b.CanRemember() {
		n.Keys, n.Labels = append(n.Keys, "always"), append(n.Labels, "Always")
	}
	n.Pressed = func(key string) { a.answer(r.ID, key) }
	return n
}

// answer takes a button. Put aside is no answer: another way may bring one, and
// the deadline holds. A key that was not offered denies.
func (a *asker) answer(id, key string) {
	reply := ask.Reply{ID: id}
	switch key {
	case Dismissed:
		a.mu.Lock()
		a.left[id] = true
		a.mu.Unlock()
		return
	case "once":
		reply.Verdict = ask.Allow
	case "session":
		reply.Verdict, reply.Scope = ask.Allow, ask.Session
	case "always":
		reply.Verdict, reply.Scope = ask.Allow, ask.Always
	}
	if err := a.b.Reply(reply, "desktop"); err != nil {
		_, _ = a.bus.Show(Note{Summary: "sallyport", Body: clean(err.Error()), Expire: 10 * time.Second}) // gone: nobody to tell
	}
}

// body says who wishes.
func body(r ask.Request) string {
	var lines []string
	if r.Proc != nil {
		var words []string
		for _, w := range r.Proc.Argv {
			words = append(words, string(w))
		}
		lines = append(lines, fmt.Sprintf("process %d: %s", r.Proc.PID, short(strings.Join(words, " "))))
	}
	name := r.Session
	if r.Name != "" {
		name = short(string(r.Name)) + " (" + name + ")"
	}
	lines = append(lines, "sandbox: "+name)
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// clean leaves nothing that reorders, hides or moves what is shown.
func clean(s string) string { return event.Text(s).Printable() }

func short(s string) string {
	const most = 160
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
