package sandbox

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

func diagAnswer(kind uint16, inode uint32) []byte {
	b := make([]byte, diagMessageSize)
	binary.NativeEndian.PutUint32(b, diagMessageSize)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[nlmsgHeader+68:], inode)
	return b
}

func TestSocketInodeIsReadFromTheAnswer(t *testing.T) {
	inode, err := diagInode(diagAnswer(sockDiagByFamily, 4711))
	if err != nil || inode != 4711 {
		t.Errorf("got %d, %v", inode, err)
	}
}

func TestBadSockDiagAnswersAreErrors(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": nil, "cut header": make([]byte, 15), "cut message": diagAnswer(sockDiagByFamily, 1)[:diagMessageSize-1],
		"other type": diagAnswer(3, 1),
	} {
		if _, err := diagInode(b); err == nil || errors.Is(err, errNoSocket) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := diagInode(diagAnswer(nlmsgError, 0)); !errors.Is(err, errNoSocket) {
		t.Errorf("an error message is not %v but %v", errNoSocket, err)
	}
}

func TestRequestHoldsBothEnds(t *testing.T) {
	b := diagRequest(socketID{proto: protoTCP, local: netip.MustParseAddrPort("198.18.0.1:4660"), remote: netip.MustParseAddrPort("[2001:db8::1]:443")})
	s := b[nlmsgHeader+8:]
	if len(b) != diagRequestSize || b[nlmsgHeader] != afINET || s[0] != 0x12 || s[1] != 0x34 || s[2] != 0x01 || s[3] != 0xbb ||
		s[4] != 198 || s[20] != 0x20 {
		t.Errorf("got % x", b)
	}
}

func FuzzDiagInode(f *testing.F) {
	f.Add(diagAnswer(sockDiagByFamily, 1))
	f.Add(diagAnswer(nlmsgError, 0)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if inode, err := diagInode(b); err != nil && inode != 0 {
			t.Errorf("inode %d with error %v", inode, err)
		}
	})
}
