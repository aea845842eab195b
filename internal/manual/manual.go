// Package manual writes manual pages and completions from what the help is made
// from. The programs that are shipped can do without: only their builds with the
// tag man have it.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Command writes the pages of the program that it is added to.
func Command(version string) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR SECONDS", Hidden: true, Args: cobra.ExactArgs(2),
		Short: "Write manual pages and completions, dated SECONDS after 1970, to DIR",
		RunE:  func(cmd *cobra.Command, args []string) error { return write(cmd.Root(), version, args[0], args[1]) },
	}
}

func write(root *cobra.Command, version, dir, seconds string) error {
	since, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("read date: %w", err)
	}
	date, pages := time.Unix(since, 0).UTC(), filepath.Join(dir, "man")
	if err := os.MkdirAll(pages, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	name := root.Name()
	header := doc.GenManHeader{Section: "1", Source: "sallyport " + version, Manual: "sallyport", Date: &date}
	if err := doc.GenManTree(root, &header, pages); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	for file, write := range map[string]func(string) error{
		name + ".bash": func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"_" + name:     root.GenZshCompletionFile,
		name + ".fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
	} {
		if err := write(filepath.Join(dir, file)); err != nil {
			return fmt.Errorf("write completion: %w", err)
		}
	}
	return nil
}
