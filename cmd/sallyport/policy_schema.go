package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/policy"
)

func policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of policy files, for editors",
		Example: `  sallyport policy schema > ~/.config/sallyport/policy.schema.json
  # and as the first line of a policy, for editors with yaml-language-server:
  # yaml-language-server: $schema=policy.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := cmd.OutOrStdout().Write(policy.Schema()); err != nil {
				return problem(fmt.Errorf("write schema: %w", err), "")
			}
			return nil
		},
	}
}
