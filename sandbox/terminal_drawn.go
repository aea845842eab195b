package sandbox

import (
	"slices"
	"strings"
)

// drawn follows what a program writes to a terminal, as far as it takes to know
// whether it has drawn all over it: whether the alternate screen is shown, and
// whether a control sequence is unfinished (ECMA-48, xterm's control sequences).
type drawn struct {
	alternate bool
	state     drawnState
	params    []byte
}

type drawnState uint8

const (
	drawnText drawnState = iota
	drawnEscape
	drawnCSI
	drawnString    // OSC, DCS, APC, PM, SOS: up to ST or BEL
	drawnStringEsc // ESC within one
	drawnCharset   // ESC and an intermediate byte: one more follows
)

// maxParams bounds the parameters of a sequence that is looked at.
const maxParams = 64

// write takes what was written, in pieces of any size.
func (d *drawn) write(b []byte) {
	for _, c := range b {
		d.step(c)
	}
}

func (d *drawn) step(c byte) {
	const can, sub, esc, bel = 0x18, 0x1a, 0x1b, 0x07
	if c == can || c == sub {
		d.state = drawnText
		return
	}
	switch d.state {
	case drawnText:
		if c == esc {
			d.state = drawnEscape
		}
	case drawnEscape:
		d.escape(c)
	case drawnCharset:
		if c >= '0' {
			d.state = drawnText
		}
	case drawnCSI:
		switch {
		case c == esc:
			d.state = drawnEscape
		case c >= '@' && c <= '~':
			d.csi(c)
			d.state = drawnText
		case c >= ' ' && len(d.params) < maxParams:
			d.params = append(d.params, c)
		}
	case drawnString:
		switch c {
		case esc:
			d.state = drawnStringEsc
		case bel:
			d.state = drawnText
		}
	case drawnStringEsc:
		d.state = drawnString
		if c == '\\' {
			d.state = drawnText
		}
	}
}

func (d *drawn) escape(c byte) {
	switch {
	case c == '[':
		d.state, d.params = drawnCSI, d.params[:0]
	case strings.IndexByte("]PX^_", c) >= 0:
		d.state = drawnString
	case c == 'c': // RIS
		d.state, d.alternate = drawnText, false
	case c >= ' ' && c < '0':
		d.state = drawnCharset
	case c >= '0' && c <= '~':
		d.state = drawnText
	}
}

// csi takes a whole sequence: of interest are DECSET and DECRST of the modes that
// show the alternate screen.
func (d *drawn) csi(final byte) {
	params, private := strings.CutPrefix(string(d.params), "?")
	if !private || final != 'h' && final != 'l' {
		return
	}
	for _, p := range strings.Split(params, ";") {
		if slices.Contains([]string{"47", "1047", "1049"}, p) {
			d.alternate = final == 'h'
		}
	}
}

// between reports whether something may be written without being taken for a
// part of a sequence.
func (d *drawn) between() bool { return d.state == drawnText }
