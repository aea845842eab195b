package registry

import "errors"

// nameless is Linux's.
func (r *Registration) nameless([]byte) error { return errors.ErrUnsupported }
