package sallyport

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
	"github.com/sallyport/sallyport/internal/policy"
)

const (
	// countEvery is how old the numbers of a run become at most.
	countEvery = 5 * time.Second
	// carrierLimit is how long the end of a run waits for the program that
	// carries its record on, which gives up before.
	carrierLimit = 5 * time.Second
)

// AgentProgram is the name of the program for all that does not belong into the
// one that sandboxes are made of. It stands beside it.
const AgentProgram = "sallyport-agent"

// outlets carry a run's record on, and its numbers: to node_exporter's textfile
// collector and to a store of events, which a program of its own does, or, the
// numbers alone, to the machine's agent. Nothing that a sandbox does waits for
// them.
type outlets struct {
	rules   policy.AuditRules
	logs    string
	version string
	tier    event.Tier
	exe     string // this program
	warn    func(message, hint string)
	// report tells the agent; nil: there is none.
	report func(event.Traffic) bool

	carrier *exec.Cmd // nil: nothing is carried on
	in      io.WriteCloser
	read    func() event.Traffic // the proxy's; nil: there was none
	told    event.Traffic        // of it
	extra   event.Traffic        // starts
	up      bool
	stop    chan struct{} // closed to end counting
	closed  bool
	counted sync.WaitGroup
	heard   chan struct{} // closed: the carrier has said all
}

// newOutlets begins to carry on. With an agent the policy's targets are the
// agent's business.
func newOutlets(o *outlets) *outlets {
	o.stop = make(chan struct{})
	if r := o.rules; o.report != nil && r != (policy.AuditRules{}) {
		o.warn("the agent keeps the record: audit.log, otlp, syslog and textfile of the policy have no effect", "see 'sallyport agent --help'")
	} else if r.OTLP != "" || r.Syslog != "" || r.Textfile != "" {
		if err := o.start(); err != nil {
			o.warn("events and numbers are not sent on, only recorded: "+err.Error(), "install "+AgentProgram+" beside sallyport")
		}
	}
	return o
}

func (o *outlets) start() error {
	cmd := exec.Command(filepath.Join(filepath.Dir(o.exe), AgentProgram), "outlets")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what a terminal sends is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", AgentProgram, err)
	}
	o.carrier, o.in, o.heard = cmd, in, make(chan struct{})
	go func() {
		defer close(o.heard)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var w export.Warning
			if json.Unmarshal(lines.Bytes(), &w) == nil && w.Text != "" {
				o.warn(w.Text, "")
			}
		}
	}()
	return o.send(export.Job{Logs: o.logs, OTLP: o.rules.OTLP, Syslog: o.rules.Syslog, Textfile: o.rules.Textfile, Version: o.version, Tier: o.tier})
}

func (o *outlets) send(v any) error {
	if err := json.NewEncoder(o.in).Encode(v); err != nil {
		return fmt.Errorf("speak to %s: %w", AgentProgram, err)
	}
	return nil
}

// begin counts what a proxy counts: the command has been started.
func (o *outlets) begin(took time.Duration, read func() event.Traffic) {
	o.up, o.read = true, read
	o.extra.Starts = map[event.Start]uint64{event.Started: 1}
	o.extra.StartTimes.Observe(took)
	if o.report == nil && o.carrier == nil {
		return
	}
	o.counted.Go(func() {
		tick := time.NewTicker(countEvery)
		defer tick.Stop()
		for {
			select {
			case <-o.stop:
				return
			case <-tick.C:
				o.count()
			}
		}
	})
}

// count reports what is new.
func (o *outlets) count() {
	var now event.Traffic
	if o.read != nil {
		now = o.read()
	}
	delta := now.Since(o.told)
	if o.report != nil {
		delta.Open = now.Open
		if !o.report(delta) {
			return
		}
	} else if o.carrier != nil {
		delta.Add(o.extra)
		if o.send(delta) != nil {
			return // it has ended, and said why
		}
		o.extra = event.Traffic{}
	}
	o.told = now
}

// flush counts for the last time: the proxy has ended. With an agent it must come
// before the end of the sandbox.
func (o *outlets) flush() {
	if o == nil || closed(o.stop) {
		return
	}
	close(o.stop)
	o.counted.Wait()
	if o.report != nil {
		o.count()
	}
}

// close sends what is left, when the log is whole.
func (o *outlets) close() {
	if o == nil || o.closed {
		return
	}
	o.closed = true
	o.flush()
	if o.carrier == nil {
		return
	}
	if !o.up {
		o.extra.Starts = map[event.Start]uint64{event.StartFailed: 1}
	}
	o.count()
	o.in.Close()
	defer time.AfterFunc(carrierLimit, func() { _ = o.carrier.Process.Kill() }).Stop()
	<-o.heard
	if err := o.carrier.Wait(); err != nil {
		o.warn("events and numbers are not all sent on, only recorded: "+AgentProgram+": "+err.Error(), "the next run sends what is left")
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// logDir is where a user's runs keep their logs.
func logDir(p *policy.Policy, home string) string {
	if dir := p.Audit().Log; dir != "" {
		return filepath.Clean(dir)
	}
	return audit.Dir(os.Getenv, home)
}
