//go:build !linux

package main

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/audit"
)

// agentCommands: the agent is the kernel's programs, which only Linux has.
func agentCommands() []*cobra.Command { return nil }

func machineLog(*cobra.Command) []audit.Source { return nil }
