//go:build !linux && !darwin

package audit

func mono() int64 { return 0 }
