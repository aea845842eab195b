package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

// srtControl takes the descriptor that new settings come from.
func srtControl(*cobra.Command, int, *sallyport.Options) error {
	return runError(errors.New("--control-fd is not built yet"), "updates that are not heeded would be worse than none")
}
