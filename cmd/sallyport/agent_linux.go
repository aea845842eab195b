package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/agent"
	"github.com/sallyport/sallyport/internal/audit"
)

// agentCommands lead to a program of its own: what the agent is made of would be
// in every sandbox otherwise, and cost every run its initialisation.
func agentCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:   "agent [flags]",
		Short: "Do for ordinary users what takes root: the kernel's record of what sandboxes are refused",
		Long:  "Become " + sallyport.AgentProgram + ", which is installed beside this program; see " + sallyport.AgentProgram + "(1).",
		Example: `  sallyport agent --help
  sallyport agent --metrics-listen 127.0.0.1:9469`,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return becomeAgent(args) },
	}}
}

func becomeAgent(args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return problem(fmt.Errorf("find own binary: %w", err), "nothing works without /proc")
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return problem(fmt.Errorf("find own binary: %w", err), "")
	}
	program := filepath.Join(filepath.Dir(exe), sallyport.AgentProgram)
	err = syscall.Exec(program, append([]string{sallyport.AgentProgram}, args...), os.Environ())
	if errors.Is(err, fs.ErrNotExist) {
		return problem(fmt.Errorf("there is no %s", program), "install both programs into the same directory")
	}
	return problem(fmt.Errorf("start %s: %w", program, err), "")
}

// machineLog is the caller's part of the machine's log, if there is an agent; all
// of it for root, who needs none to read the files.
func machineLog(cmd *cobra.Command) []audit.Source {
	path := agent.SocketPath(os.LookupEnv)
	if _, err := os.Stat(path); path != "" && err == nil {
		_, err := agent.Ask(path)
		if err == nil {
			return []audit.Source{agent.Logs(path)}
		}
		if os.Geteuid() != 0 {
			warn(cmd.ErrOrStderr(), "the machine's log is left out: "+err.Error(), "see 'sallyport doctor'")
		}
	}
	if dir := filepath.Join(agent.DefaultStateDir, "audit"); os.Geteuid() == 0 {
		if _, err := os.Stat(dir); err == nil {
			return []audit.Source{audit.DirSource(dir)}
		}
	}
	return nil
}
