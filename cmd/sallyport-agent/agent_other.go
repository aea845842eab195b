//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// agentCommand: the agent is the kernel's programs, which only Linux has.
func agentCommand() *cobra.Command {
	return &cobra.Command{Use: "sallyport-agent", Short: "Send the record of runs on", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("there is no agent on this system") }}
}
