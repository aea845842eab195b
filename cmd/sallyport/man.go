//go:build man

package main

import "github.com/sallyport/sallyport/internal/manual"

func init() { extra = append(extra, manual.Command(versionString())) }
