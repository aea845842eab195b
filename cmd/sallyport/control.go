package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

// openControl takes the descriptor that policies come from, if one was named.
func openControl(cmd *cobra.Command, fd int, o *sallyport.Options) error {
	if !cmd.Flags().Changed("control-fd") {
		return nil
	}
	f, err := controlFile(fd)
	if err != nil {
		return runError(fmt.Errorf("--control-fd %d: %w", fd, err),
			"open it for reading, for example: sallyport run --control-fd 3 3<updates -- COMMAND")
	}
	o.Control = f
	return nil
}

// controlFile takes an inherited descriptor. Its reads can be ended where it is
// a pipe or a socket.
func controlFile(fd int) (*os.File, error) {
	if fd < 3 {
		return nil, fmt.Errorf("descriptors up to 2 are the command's")
	}
	if err := readable(fd); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd)), nil
}
