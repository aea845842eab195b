//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "try: there is a sandbox for Linux only, so far")
	os.Exit(1)
}
