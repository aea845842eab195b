//go:build !linux && !darwin

package sallyport

import "errors"

func lockDir(string) (unlock func(), err error) {
	return nil, errors.New("not supported on this system")
}
