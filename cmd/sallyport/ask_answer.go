package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/proxy/ask"
)

// lookEvery is how often it is looked for sandboxes that are new.
const lookEvery = time.Second

// said is what one sandbox said, nil message: it has ended.
type said struct {
	by *sallyport.Asker
	m  *ask.Message
}

// view shows the questions of many sandboxes, one at a time.
type view struct {
	out    io.Writer
	said   chan said
	known  map[string]bool // sandboxes, by id
	asking int             // of them those that ask
	open   []pending       // the first is shown
	shown  string          // its id
	idle   string          // what was said of having nothing open
}

type pending struct {
	by *sallyport.Asker
	r  ask.Request
}

// answerAll shows questions and reads answers until its input ends.
func answerAll(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &view{out: out, said: make(chan said), known: map[string]bool{}}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	v.look(ctx)
	for {
		v.show()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			v.look(ctx)
		case s := <-v.said:
			v.hear(s)
		case line, more := <-lines:
			if !more {
				return nil
			}
			v.answer(line)
		}
	}
}

// look connects to the sandboxes that are new.
func (v *view) look(ctx context.Context) {
	for _, e := range sallyport.List() {
		if v.known[e.ID] {
			continue
		}
		a, err := sallyport.DialAsk(e, ask.WantAsk)
		if err != nil {
			continue // it asks nothing, or is not up yet
		}
		v.known[e.ID] = true
		if !a.Hello.Asking {
			a.Close()
			continue
		}
		v.asking++
		go func() {
			defer a.Close()
			for {
				m, err := a.Next()
				next := said{by: a, m: &m}
				if err != nil {
					next.m = nil
				}
				select {
				case v.said <- next:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// hear takes what a sandbox says.
func (v *view) hear(s said) {
	if s.m == nil {
		delete(v.known, s.by.Running.ID)
		v.asking--
		v.drop(func(p pending) bool { return p.by == s.by }, "the sandbox has ended")
		return
	}
	switch s.m.Type {
	case ask.TypeAsk:
		for i := range v.open {
			if v.open[i].r.ID == s.m.Request.ID {
				v.open[i].r = *s.m.Request // more wait for it
				return
			}
		}
		v.open = append(v.open, pending{s.by, *s.m.Request})
	case ask.TypeSettled:
		v.drop(func(p pending) bool { return p.r.ID == s.m.Settled.ID }, ask.SettledText(*s.m.Settled))
	case ask.TypeError:
		fmt.Fprintf(v.out, "sallyport: %s\n", event.Text(s.m.Error).Printable())
	}
}

// drop takes questions away that are not open any more.
func (v *view) drop(is func(pending) bool, why string) {
	var left []pending
	for _, p := range v.open {
		if !is(p) {
			left = append(left, p)
		} else if p.r.ID == v.shown {
			fmt.Fprintf(v.out, "\nsallyport: %s\n", why)
			v.shown = ""
		}
	}
	v.open = left
}

// show puts the first question, unless one is shown.
func (v *view) show() {
	switch {
	case len(v.open) == 0:
		if idle := "nothing is asked by " + count(v.asking, "sandbox") + "; waiting (Ctrl-D ends this)"; idle != v.idle {
			v.idle = idle
			fmt.Fprintf(v.out, "sallyport: %s\n", idle)
		}
	case v.shown == "":
		v.idle = ""
		v.shown = v.open[0].r.ID
		fmt.Fprintf(v.out, "\n%s", ask.Prompt(v.open[0].r, len(v.open)-1, v.open[0].by.Hello.Remembers))
	}
}

// answer takes a line for the question that is shown.
func (v *view) answer(line string) {
	if v.shown == "" || len(v.open) == 0 {
		return
	}
	p := v.open[0]
	reply, err := ask.ParseLine(line, p.r)
	switch {
	case errors.Is(err, ask.ErrHelp):
		fmt.Fprint(v.out, ask.Help+ask.AskLine)
	case err != nil:
		fmt.Fprintf(v.out, "sallyport: %s\n%s", event.Text(err.Error()).Printable(), ask.AskLine)
	default:
		if err := p.by.Send(ask.Message{Type: ask.TypeAnswer, Reply: &reply}); err != nil {
			fmt.Fprintf(v.out, "sallyport: %s\n", event.Text(err.Error()).Printable())
		}
		v.open = v.open[1:]
		v.shown = ""
	}
}
