//go:build !unix

package main

import "errors"

func readable(int) error { return errors.New("not on this system") }
