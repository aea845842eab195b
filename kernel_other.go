//go:build !linux

package sallyport

// kernelSide is Linux's.
type kernelSide struct{}

func (o *Options) findTier() error { return nil }
