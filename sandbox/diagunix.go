package sandbox

import (
	"encoding/binary"
	"fmt"
)

// Wire layout of sock_diag(7) for unix sockets: struct unix_diag_req and
// unix_diag_msg of linux/unix_diag.h, after a struct nlmsghdr; attributes follow
// the message.
const (
	unixRequestSize = nlmsgHeader + 24
	unixMessageSize = nlmsgHeader + 16
	showPeer        = 4 // UDIAG_SHOW_PEER
	attrPeer        = 2 // UNIX_DIAG_PEER
	attrHeader      = 4
)

// unixRequest asks for the other end of one socket. A connected pair cannot be
// found by its addresses: clients have none.
func unixRequest(inode uint32) []byte {
	b := make([]byte, unixRequestSize)
	binary.NativeEndian.PutUint32(b[0:], unixRequestSize)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], nlmFlagRequest)
	r := b[nlmsgHeader:]
	r[0] = afUNIX
	binary.NativeEndian.PutUint32(r[4:], 0xffffffff) // every state
	binary.NativeEndian.PutUint32(r[8:], inode)
	binary.NativeEndian.PutUint32(r[12:], showPeer)
	binary.NativeEndian.PutUint32(r[16:], anyCookie)
	binary.NativeEndian.PutUint32(r[20:], anyCookie)
	return b
}

// unixPeer reads the answer: the inode number of the other end.
func unixPeer(b []byte) (uint32, error) {
	if err := checkDiag(b, unixMessageSize); err != nil {
		return 0, err
	}
	for b = b[unixMessageSize:]; len(b) >= attrHeader; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < attrHeader || size > len(b) {
			return 0, fmt.Errorf("read sock_diag answer: an attribute of %d bytes", size)
		}
		if kind == attrPeer && size == attrHeader+4 {
			return binary.NativeEndian.Uint32(b[attrHeader:]), nil
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return 0, errNoSocket
}
