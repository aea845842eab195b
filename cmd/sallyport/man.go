//go:build man

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func init() {
	extra = append(extra, &cobra.Command{
		Use: "man DIR SECONDS", Hidden: true, Args: cobra.ExactArgs(2),
		Short: "Write manual pages and completions, dated SECONDS after 1970, to DIR",
		RunE:  func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0], args[1]) },
	})
}

// writeManual makes the pages and the completions from what the help is made
// from. The program that is shipped can do without.
func writeManual(root *cobra.Command, dir, seconds string) error {
	since, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("read date: %w", err)
	}
	date, pages := time.Unix(since, 0).UTC(), filepath.Join(dir, "man")
	if err := os.MkdirAll(pages, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	header := doc.GenManHeader{Section: "1", Source: "sallyport " + versionString(), Manual: "sallyport", Date: &date}
	if err := doc.GenManTree(root, &header, pages); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	for name, write := range map[string]func(string) error{
		"sallyport.bash": func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"_sallyport":     root.GenZshCompletionFile,
		"sallyport.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
	} {
		if err := write(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("write completion: %w", err)
		}
	}
	return nil
}
