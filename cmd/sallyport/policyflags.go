package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/policy"
)

// policyFlags are the flags of every command that reads a policy.
type policyFlags struct {
	files []string
	rules policy.Flags
}

// addPolicyFlags gives a command the flags that say which policy applies.
func addPolicyFlags(cmd *cobra.Command) *policyFlags {
	f := &policyFlags{}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.files, "policy", nil, "read the policy from `FILE`, not from the user's own and the project's (repeatable)")
	fs.Var(&ruleFlag{f, policy.FlagAllowDomain}, "allow-domain", "allow connections to `HOST[:PORT]` (repeatable)")
	fs.Var(&ruleFlag{f, policy.FlagAllowWrite}, "allow-write", "allow writing to `PATH` and below (repeatable)")
	fs.Var(&ruleFlag{f, policy.FlagDenyRead}, "deny-read", "hide `PATH` and what is below (repeatable)")
	fs.Var(&ruleFlag{f, policy.FlagTemplate}, "template", "add the built-in policy `NAME`: "+strings.Join(policy.Templates(), " or ")+" (repeatable)")
	return f
}

// ruleFlag keeps the order of the flags among each other: a rule's line is the
// place of its flag.
type ruleFlag struct {
	flags *policyFlags
	name  string
}

var _ pflag.Value = (*ruleFlag)(nil)

func (r *ruleFlag) String() string { return "" }
func (r *ruleFlag) Type() string   { return "string" }
func (r *ruleFlag) Set(v string) error {
	r.flags.rules = append(r.flags.rules, policy.Flag{Name: r.name, Value: v})
	return nil
}

func (f *policyFlags) options(more ...string) sallyport.LoadOptions {
	return sallyport.LoadOptions{Files: append(append([]string(nil), f.files...), more...), Flags: f.rules}
}

// load reads the policy; the command shows its problems and ends with them.
func (f *policyFlags) load(cmd *cobra.Command, more ...string) (*policy.Policy, error) {
	p, err := sallyport.LoadPolicy(f.options(more...))
	var problems policy.Errors
	if errors.As(err, &problems) {
		printProblems(cmd.ErrOrStderr(), problems)
		return nil, problem(fmt.Errorf("the policy has %s", count(len(problems), "problem")), "")
	}
	if err != nil {
		return nil, problem(err, "")
	}
	return p, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "x") {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}
