package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
)

func auditExportCommand() *cobra.Command {
	var fl auditFlags
	var format string
	cmd := &cobra.Command{
		Use:   "export [flags]",
		Short: "Write recorded events for another program",
		Long: `Write recorded events for another program, one a line, oldest first: all of them
unless filtered.

jsonl are the stored lines; ocsf is the Open Cybersecurity Schema Framework,
version 1.8.0: Network Activity, File System Activity, Process Activity, and
Detection Finding for what is none of these. The exit status is 1 if the log has
been damaged.`,
		Example: `  sallyport audit export --format ocsf --since today >events.jsonl
  sallyport audit export --format jsonl --sandbox build | jq .object`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "jsonl" && format != "ocsf" {
				return fmt.Errorf("--format: unknown format %q (jsonl or ocsf)", format)
			}
			fl.all, fl.output = true, "json"
			filter, from, err := fl.read(cmd, time.Now())
			if err != nil {
				return err
			}
			return exportRecords(cmd, format, missingIsEmpty(audit.QueryAll(filter, from...), fl.dir == ""))
		},
	}
	fl.add(cmd, -1, "write only the last `N` events")
	for _, name := range []string{"all", "output"} {
		if err := cmd.Flags().MarkHidden(name); err != nil {
			panic(err)
		}
	}
	cmd.Flags().StringVar(&format, "format", "jsonl", "`FORMAT`: jsonl or ocsf")
	return cmd
}

// exportRecords writes records to stdout and what is wrong with them to stderr.
func exportRecords(cmd *cobra.Command, format string, records func(func(audit.Record, error) bool)) error {
	failed := false
	for r, err := range records {
		if err != nil {
			failed = true
			fmt.Fprintf(cmd.ErrOrStderr(), "sallyport: error: %s\n", event.Text(err.Error()).Printable())
			continue
		}
		line := r.Line
		if format == "ocsf" {
			name := filepath.Base(r.File)
			id := fmt.Sprintf("%s:%d", name[strings.LastIndexByte(name, ' ')+1:], r.Seq) // as when it is sent
			if line, err = export.OCSF(&export.Record{Event: r.Event, ID: id}, 1<<20); err != nil {
				return problem(err, "")
			}
		}
		if _, err := io.WriteString(cmd.OutOrStdout(), string(line)+"\n"); err != nil {
			return problem(fmt.Errorf("write events: %w", err), "")
		}
	}
	if failed {
		return problem(errors.New("the audit log is damaged, or a part of it cannot be read"), "what stands at the places above cannot be relied on")
	}
	return nil
}
