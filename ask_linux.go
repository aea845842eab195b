package sallyport

import (
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
	"github.com/sallyport/sallyport/sandbox"
)

// screen is the terminal to ask on: the one that the command has, else the one
// that this process belongs to, if it is there for questions.
func (r *run) screen() ask.Screen {
	if !r.asking.via(policy.AskTTY) {
		return nil
	}
	if s := r.box.Screen(); s != nil {
		return commandScreen{s}
	}
	if tty := ask.OpenTTY(); tty != nil {
		r.asking.atEnd(tty.Close)
		return tty
	}
	return nil
}

// commandScreen is the terminal that the command has one of its own in place of.
type commandScreen struct{ *sandbox.Screen }

func (s commandScreen) Borrow() (ask.Page, error) {
	p, err := s.Screen.Borrow()
	if err != nil {
		return nil, err
	}
	return commandPage{p}, nil
}

type commandPage struct{ *sandbox.Page }

func (p commandPage) ReadLine(stop <-chan struct{}) (string, error) {
	line, err := p.Page.ReadLine(stop)
	if err == sandbox.ErrStopped {
		err = ask.ErrStopped
	}
	return line, err
}

// listAsking serves programs of the user's beside the run's entry in the list.
func (r *run) listAsking(path string) {
	if r.asking == nil {
		return
	}
	if err := r.asking.listen(path, false); err != nil {
		r.warn(err.Error(), "'sallyport ask' does not know of this run")
	}
}

// askSocket is where a running sandbox can be asked what it asks.
func askSocket(e Running) string { return e.AskSocket() }
