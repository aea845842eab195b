//go:build !linux

package main

import "github.com/spf13/cobra"

// agentCommands: the agent is the kernel's programs, which only Linux has.
func agentCommands() []*cobra.Command { return nil }
