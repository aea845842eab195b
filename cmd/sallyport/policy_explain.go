package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func policyExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain OPERATION OBJECT | EVENT | -",
		Short: "Say what the policy decides, by which rule, and what would change it",
		Long: `Say what the policy decides, by which rule, and the smallest change that would
decide otherwise. Nothing is opened, looked up or connected to.

Operations: net.connect HOST:PORT, net.dns NAME, unix.connect PATH, and
file.read, file.write, file.create, file.delete, file.rename, file.link,
file.meta, file.exec PATH. EVENT is a line of 'sallyport audit query -o json';
- reads such lines from standard input.`,
		Example: `  sallyport policy explain net.connect example.com:443
  sallyport policy explain --allow-domain '*.example.com' net.dns www.example.com
  sallyport policy explain "file.write ~/.bashrc"
  sallyport audit query --since 1h -o json | sallyport policy explain -`,
		Args: cobra.MinimumNArgs(1),
	}
	flags := addPolicyFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asked, err := questions(strings.Join(args, " "), cmd.InOrStdin())
		if err != nil {
			return &statusError{exitUsage, err, "for example: sallyport policy explain net.connect example.com:443"}
		}
		p, err := flags.load(cmd)
		if err != nil {
			return err
		}
		for _, q := range asked {
			a, err := explain(p, q)
			if err != nil {
				return &statusError{exitUsage, err, "see 'sallyport policy explain --help'"}
			}
			if err := printAnswer(cmd.OutOrStdout(), q, a); err != nil {
				return problem(fmt.Errorf("write explanation: %w", err), "")
			}
		}
		return nil
	}
	return cmd
}

// question is what a policy is asked about.
type question struct {
	op     event.Operation
	object string
	event  *event.Event // it was recorded
}

type answer struct {
	policy.Decision
	flip policy.Flip
}

// questions reads what is asked: an operation and its object, or events.
func questions(text string, in io.Reader) ([]question, error) {
	switch {
	case text == "-":
		return eventQuestions(in)
	case strings.HasPrefix(text, "{"):
		return eventQuestions(strings.NewReader(text))
	}
	name, object, _ := strings.Cut(text, " ")
	q := question{object: object}
	if err := q.op.UnmarshalText([]byte(name)); err != nil || object == "" {
		return nil, fmt.Errorf("%q is not an operation and its object", text)
	}
	return []question{q}, nil
}

func eventQuestions(in io.Reader) ([]question, error) {
	var out []question
	dec := json.NewDecoder(bufio.NewReader(in))
	for {
		var e event.Event
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read event: %w", err)
		}
		out = append(out, question{e.Operation, objectOf(e), &e})
	}
}

// objectOf writes an event's object as it is asked about.
func objectOf(e event.Event) string {
	host := string(e.Object.Host)
	if host == "" {
		host = e.Object.Addr
	}
	switch {
	case e.Operation == event.NetConnect:
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return host + ":" + strconv.Itoa(int(e.Object.Port))
	case e.Object.Path != "":
		return string(e.Object.Path)
	}
	return host
}

func explain(p *policy.Policy, q question) (answer, error) {
	if e := q.event; e != nil && e.Reason == event.LimitExceeded && e.Object.Ref != "" {
		return answer{Decision: policy.Decision{Verdict: e.Verdict, Reason: e.Reason},
			flip: policy.Flip{Why: string(e.Object.Ref) + " decides it, " + e.Rule + ": there it can be raised"}}, nil
	}
	switch q.op {
	case event.NetConnect:
		req, err := policy.ParseNetTarget(q.object)
		if err != nil {
			return answer{}, err
		}
		return answer{p.DecideNet(req), p.FlipNet(req)}, nil
	case event.NetDNS:
		h, err := policy.ParseHost(q.object)
		if err != nil {
			return answer{}, err
		}
		return answer{p.DecideName(h), p.FlipName(h)}, nil
	case event.UnixConnect:
		path, err := absolutePath(q.object)
		if err != nil {
			return answer{}, err
		}
		path = sallyport.ResolvePath(path)
		return answer{p.DecideUnix(path), p.FlipUnix(path)}, nil
	case event.FileRead, event.FileWrite, event.FileCreate, event.FileDelete,
		event.FileRename, event.FileLink, event.FileMeta, event.FileExec:
		path, err := absolutePath(q.object)
		if err != nil {
			return answer{}, err
		}
		path = decidedPath(p, q.op, path)
		return answer{p.DecideFile(q.op, path), p.FlipFile(q.op, path)}, nil
	}
	if q.event != nil { // what a sandbox never allows
		return answer{Decision: policy.Decision{Verdict: q.event.Verdict, Reason: q.event.Reason},
			flip: policy.Flip{Why: "no rule of a policy decides it: " + q.event.Rule + " does"}}, nil
	}
	return answer{}, fmt.Errorf("%s is not decided by a policy", q.op)
}

// decidedPath gives the name by which a path is decided: its own, or that to
// which its links lead, as the boundary does: either may be hidden.
func decidedPath(p *policy.Policy, op event.Operation, path string) string {
	if d := p.DecideFile(event.FileRead, path); !d.Allowed() {
		return path
	}
	switch op {
	case event.FileDelete, event.FileRename, event.FileLink, event.FileCreate: // of the link itself
		dir, name := filepath.Split(path)
		return filepath.Join(sallyport.ResolvePath(dir), name)
	}
	return sallyport.ResolvePath(path)
}

func absolutePath(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find home directory: %w", err)
		}
		path = filepath.Join(home, path[1:])
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	return path, nil
}

func printAnswer(w io.Writer, q question, a answer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s: %s\n", q.op, printable(q.object), a.Verdict)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "  %-7s %s\n", name, printable(value))
		}
	}
	line("reason", a.Reason.String())
	if a.Rule != (policy.Rule{}) {
		line("rule", a.Rule.String())
	}
	line("text", a.Text)
	if a.Ask {
		line("asked", "somebody is asked, who can allow it: see docs/ask.md")
	}
	line("fix", a.Fix)
	if a.Fix == "" {
		for _, c := range a.flip.Changes {
			line("flip", c.String())
		}
		line("careful", a.flip.Careful)
		line("final", a.flip.Why)
	}
	if q.event != nil && q.event.Verdict.Denied() == a.Allowed() {
		line("then", fmt.Sprintf("it was recorded as %s, by %s: the policy was another", q.event.Verdict, q.event.Rule))
	}
	_, err := io.WriteString(w, out.String())
	return err
}
