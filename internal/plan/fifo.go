package plan

import (
	"io/fs"
	"math"
	"path"

	"github.com/sallyport/sallyport/internal/policy"
)

// Without Landlock a FIFO of the host can be opened for writing through a
// read-only mount (mount(2) does not keep pipes from being written), and
// whoever reads it takes what the payload says for the host's. Then those that
// lie where programs keep them are masked. The search is bounded; what lies
// deeper is named in Plan.NotRecorded and by doctor.
const (
	fifoDepth   = 3
	fifoEntries = 50_000
)

var fifoRule = policy.Rule{Name: "fifo-without-landlock"}

// hideFIFOs masks the FIFOs below $HOME and below the system's directories for
// changing data. Write roots are left out: what is there is the payload's.
func (m *mounter) hideFIFOs() {
	left := fifoEntries
	for _, dir := range []string{m.home, "/var", "/srv", "/opt"} {
		m.hideFIFOsIn(dir, fifoDepth, &left)
	}
}

func (m *mounter) hideFIFOsIn(dir string, depth int, left *int) {
	if m.above(dir) != ReadOnly {
		return
	}
	entries, err := m.r.sorted(dir, math.MaxInt)
	if err != nil {
		return // unreadable for us is unreadable for the payload
	}
	for _, e := range entries {
		if *left--; *left < 0 {
			return
		}
		full := path.Join(dir, e.Name())
		switch {
		case e.Type()&fs.ModeNamedPipe != 0:
			m.put(point{name: full, real: full, access: Hidden, rule: fifoRule})
		case e.IsDir() && depth > 0:
			m.hideFIFOsIn(full, depth-1, left)
		}
	}
}
