//go:build linux || darwin

package sallyport

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

// openAsking lets the user be asked: on the desktop, in other terminals, and on
// this one where the command has it not. A command that shares it could take the
// answer away, or write over the question: there is no terminal of its own for
// it here.
func (r *macRun) openAsking() {
	if r.asking == nil {
		return
	}
	r.asking.startDesktop(&r.opts)
	if reg := r.listing.reg; reg != nil {
		if err := r.asking.listen(reg.AskSocket(), false); err != nil {
			r.warn(err.Error(), "'sallyport ask' does not know of this run")
		}
	}
	if !r.asking.via(policy.AskTTY) {
		return
	}
	if slices.ContainsFunc([]*os.File{r.opts.Stdin, r.opts.Stdout, r.opts.Stderr}, isTerminal) {
		r.warn("the command has this terminal: nothing is asked here", "answer in another one: sallyport ask")
		return
	}
	if tty := ask.OpenTTY(); tty != nil {
		r.asking.atEnd(tty.Close)
		r.asking.startTerminal(tty)
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
