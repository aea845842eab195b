//go:build !linux

package feature

import "errors"

// Probe cannot tell anything about a kernel that is not Linux.
func Probe(Name) (string, error) { return "", errors.New("features are those of Linux") }

// Running is the zero version where the kernel is not Linux.
func Running() (Guest, Version, error) { return Guest{}, Version{}, nil }
