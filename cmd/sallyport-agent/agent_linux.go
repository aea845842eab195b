package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/agent"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
	"github.com/sallyport/sallyport/internal/otlp"
	"github.com/sallyport/sallyport/metrics"
)

type agentFlags struct {
	socket, state      string
	metrics, webConfig string
	otlp, syslog       string
	journal, remove    bool
	recorder           string
	say                func(text string) // warns
}

func agentCommand() *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "sallyport-agent [flags]",
		Short: "Do for ordinary users what takes root: the kernel's record of what sandboxes are refused",
		Long: `Load the kernel's programs once, and put the sandboxes of all users under them:
'sallyport run' then has tier trace, and what it records is in the machine's log,
which root owns. It is a daemon for root, in the foreground; docs/agent.md has
its systemd units.

SIGTERM ends the agent and no sandbox: enforcement goes on, and the next agent
takes them over. SIGHUP reads the administrator's policies again and begins new
log files.`,
		Example: `  sallyport-agent
  sallyport-agent --metrics-listen 127.0.0.1:9469`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errNotRoot
			}
			return f.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.socket, "socket", agent.DefaultSocket, "listen on `PATH`, unless a service manager passes a socket")
	flags.StringVar(&f.state, "state-dir", agent.DefaultStateDir, "keep logs and what outlives the agent in `DIR`; its name tells agents apart")
	flags.StringVar(&f.metrics, "metrics-listen", "", "serve /metrics on `ADDRESS:PORT`")
	flags.StringVar(&f.webConfig, "metrics-config", "", "take certificates and passwords for /metrics from `FILE`, a web configuration as Prometheus' exporters have it")
	flags.StringVar(&f.otlp, "otlp", "", "send events to the OpenTelemetry collector at `URL`, such as http://127.0.0.1:4318")
	flags.StringVar(&f.syslog, "syslog", "", "send events by syslog to `URL`, such as tcp://127.0.0.1:601")
	flags.BoolVar(&f.journal, "journald", false, "send events to the journal of systemd")
	flags.StringVar(&f.recorder, "recorder", string(agent.RecorderAuto), "record refused system calls by `WHAT`: sys_exit, which slows every call of the machine a little; fexit, which does not; auto: fexit where that misses nothing")
	flags.BoolVar(&f.remove, "remove", false, "end what an agent that runs no more left behind, sandboxes too; the logs stay")
	return cmd
}

func (f *agentFlags) run(ctx context.Context, errOut io.Writer) error {
	if f.remove {
		return agent.Remove(f.state)
	}
	recorder := agent.Recorder(f.recorder)
	if !slices.Contains([]agent.Recorder{agent.RecorderAuto, agent.RecorderFexit, agent.RecorderExit}, recorder) {
		return fmt.Errorf("--recorder %q: none of auto, fexit and sys_exit", f.recorder)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	var writing sync.Mutex
	f.say = func(text string) { writing.Lock(); defer writing.Unlock(); warn(errOut, text, "") }
	s, err := agent.New(agent.Options{StateDir: f.state, Ceiling: sallyport.AdminPolicies, Version: version, Sift: sallyport.NewSifter,
		Recorder: recorder, Warn: f.say})
	if err != nil {
		return err
	}
	err = f.serve(ctx, s, signals)
	return errors.Join(err, s.Close())
}

// serve opens what is served, gives up what is not needed any more, and serves.
func (f *agentFlags) serve(ctx context.Context, s *agent.Server, signals <-chan os.Signal) error {
	l, err := agent.Activated()
	if err == nil && l == nil {
		if err = os.MkdirAll(filepath.Dir(f.socket), 0o755); err == nil {
			l, err = agent.Listen(f.socket)
		}
	}
	if err != nil {
		return err
	}
	defer l.Close()
	exports, err := f.exports(s.LogDir())
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	if f.metrics != "" {
		stop, err := f.expose(exposed{s, exports}, failed)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := agent.Drop(); err != nil {
		return err
	}
	sending, end := context.WithCancel(ctx)
	defer end() // what is not sent then, a successor sends
	for _, x := range exports {
		go x.Run(sending, nil)
	}
	go func() { failed <- s.Serve(l) }()
	debug.SetGCPercent(50)
	debug.FreeOSMemory() // loading takes much more than running
	if err := agent.Notify("READY=1"); err != nil {
		return err
	}
	return f.obey(ctx, s, signals, failed)
}

// exposed adds what is exported to the agent's figures.
type exposed struct {
	*agent.Server
	exports map[string]*export.Exporter
}

func (e exposed) Figures() event.Figures {
	f := e.Server.Figures()
	f.Exports = map[string]event.Export{}
	for to, x := range e.exports {
		f.Exports[to] = x.Figures()
	}
	return f
}

// exports makes what sends the machine's log elsewhere.
func (f *agentFlags) exports(logs string) (map[string]*export.Exporter, error) {
	out := map[string]*export.Exporter{}
	for _, t := range []struct {
		to     string
		wanted bool
		open   func() (export.Sender, error)
	}{
		{"otlp", f.otlp != "", func() (export.Sender, error) { return otlp.New(f.otlp, version) }},
		{"syslog", f.syslog != "", func() (export.Sender, error) { return export.NewSyslog(f.syslog) }},
		{"journald", f.journal, export.NewJournal},
	} {
		if !t.wanted {
			continue
		}
		s, err := t.open()
		if err != nil {
			return nil, err
		}
		out[t.to] = export.New(export.Options{Dir: logs, State: filepath.Join(f.state, "export-"+t.to+".json"), Sender: s,
			Warn: f.say})
	}
	return out, nil
}

// expose serves the metrics until stop is called.
func (f *agentFlags) expose(s metrics.CounterSource, failed chan<- error) (stop func(), err error) {
	if f.webConfig != "" {
		if err := metrics.Check(f.webConfig); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", f.metrics)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	uncount := agent.CountRuns()
	h := metrics.NewServer(s)
	go func() {
		if err := metrics.Serve(l, h, f.webConfig); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve metrics: %w", err)
		}
	}()
	return func() { h.Close(); uncount() }, nil
}

// obey does what signals say, until one of them ends the agent.
func (f *agentFlags) obey(ctx context.Context, s *agent.Server, signals <-chan os.Signal, failed <-chan error) error {
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				_ = agent.Notify("STOPPING=1") // whether anybody hears it or not
				return nil
			}
			_ = agent.Notify(agent.Reloading())
			if err := s.Reload(); err != nil {
				f.say("what was read before stays in force: " + err.Error())
			}
			_ = agent.Notify("READY=1")
		}
	}
}
