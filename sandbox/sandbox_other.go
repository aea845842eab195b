//go:build !linux

package sandbox

// Init has nothing to do where there are no stages.
func Init() {}
