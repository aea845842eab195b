package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/policy"
)

// starter says in comments what holds without a policy, so that to take a # away
// is to change it.
const starter = `# What the sandbox may do. See 'sallyport policy check' and 'sallyport policy show'.
network:
  # Names and addresses, each with :PORT or without. Nothing else is reached.
  allowedDomains: []
  #  - api.github.com
  #  - "*.example.com"
  #  - "git.example.com:22"
filesystem:
  # What is written outside the sandbox; without this list, the working directory.
  allowWrite:
    - .
  # Opens what is hidden by default: keys, tokens, histories, browsers' profiles.
  #allowRead:
  #  - ~/.npmrc
  # Hides what is named here INSTEAD of what is hidden by default.
  #denyRead: []
#env:
#  pass: [NODE_OPTIONS]
`

const projectStarter = `# What this project needs. It opens nothing until 'sallyport policy trust'.
network:
  allowedDomains: []
  #  - api.github.com
filesystem:
  # Hidden besides what is hidden by default.
  denyRead: []
  #  - .env
`

func policyInitCommand() *cobra.Command {
	var template string
	var project, show bool
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a policy to start from",
		Long: `Write a policy to start from: your own, which every run uses, or with --project
that of the working directory. What is there is not overwritten.`,
		Example: "  sallyport policy init\n  sallyport policy init --template code\n  sallyport policy init --project",
		Args:    cobra.MaximumNArgs(1),
	}
	fs := cmd.Flags()
	fs.StringVar(&template, "template", "", "start from the built-in policy `NAME`: "+strings.Join(policy.Templates(), " or "))
	fs.BoolVar(&project, "project", false, "write "+sallyport.ProjectPolicy)
	fs.BoolVar(&show, "stdout", false, "print it, write nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text := starter
		if project {
			text = projectStarter
		}
		if template != "" {
			b, err := policy.TemplateText(template)
			if err != nil {
				return &statusError{exitUsage, err, "one of " + strings.Join(policy.Templates(), ", ")}
			}
			text = string(b)
		}
		if show {
			_, err := fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		}
		name, err := initFile(args, project)
		if err != nil {
			return problem(err, "")
		}
		return writePolicy(cmd, name, text)
	}
	return cmd
}

func initFile(args []string, project bool) (string, error) {
	switch {
	case len(args) > 0:
		return args[0], nil
	case project:
		return sallyport.ProjectPolicy, nil
	}
	return sallyport.UserPolicy()
}

func writePolicy(cmd *cobra.Command, name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return problem(fmt.Errorf("write policy: %w", err), "")
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return problem(fmt.Errorf("%s is there already", name), "print a policy with --stdout, and take from it what you want")
	}
	if err != nil {
		return problem(fmt.Errorf("write policy: %w", err), "")
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return problem(fmt.Errorf("write policy: %w", err), "")
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s\n", printable(name))
	return err
}
