package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

func policyTrustCommand() *cobra.Command {
	var list, remove bool
	cmd := &cobra.Command{
		Use:   "trust [FILE|DIR]",
		Short: "Let a project's policy open what it asks for",
		Long: `Let a project's .sallyport.yaml open what it asks for. Until then it only
narrows. Trust is in the very bytes: a file that changes is untrusted again.
What the file would open is printed. Without an argument it is the one of the
working directory.`,
		Example: "  sallyport policy trust\n  sallyport policy trust --list\n  sallyport policy trust --remove ~/src/project",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVar(&list, "list", false, "print what is trusted")
	cmd.Flags().BoolVar(&remove, "remove", false, "trust it no more")
	cmd.MarkFlagsMutuallyExclusive("list", "remove")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := sallyport.OpenTrustStore()
		if err != nil {
			return problem(err, "")
		}
		if list {
			return listTrust(cmd, store)
		}
		name, err := projectFile(args)
		if err != nil {
			return problem(err, "")
		}
		if remove {
			if err := store.Remove(name); err != nil {
				return problem(err, "")
			}
			return nil
		}
		return trust(cmd, store, name)
	}
	return cmd
}

func listTrust(cmd *cobra.Command, store sallyport.TrustStore) error {
	entries, err := store.List()
	if err != nil {
		return problem(err, "")
	}
	for _, t := range entries {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", t.SHA256, printable(t.Path))
	}
	return nil
}

// projectFile names the file that is meant, by the path a run finds it by.
func projectFile(args []string) (string, error) {
	name := "."
	if len(args) > 0 {
		name = args[0]
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, sallyport.ProjectPolicy)
	}
	if filepath.Base(name) != sallyport.ProjectPolicy {
		return "", fmt.Errorf("%s is not named %s: other files need no trust, they are named with --policy", name, sallyport.ProjectPolicy)
	}
	dir, file := filepath.Split(name)
	return filepath.Join(sallyport.ResolvePath(dir), file), nil
}

func trust(cmd *cobra.Command, store sallyport.TrustStore, name string) error {
	opens, data, err := sallyport.ReadProject(name)
	if err != nil {
		return showError(cmd, err)
	}
	out := cmd.OutOrStdout()
	for _, line := range opens {
		fmt.Fprintln(out, printable(line))
	}
	if len(opens) == 0 {
		fmt.Fprintln(out, "it opens nothing: what it narrows counts without trust")
	}
	if err := store.Add(name, data); err != nil {
		return problem(err, "")
	}
	if _, err := fmt.Fprintf(out, "trusted: %s, as it is now\n", printable(name)); err != nil {
		return problem(errors.New("trusted, but what it opens could not be printed"), "")
	}
	return nil
}
