//go:build !linux && !darwin

package ask

import (
	"errors"
	"net"
)

func peerOf(net.Conn) (uid, pid int, err error) {
	return 0, 0, errors.New("not known on this system")
}

func checkOutside(int) error { return errPeer }
