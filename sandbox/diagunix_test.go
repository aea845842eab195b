package sandbox

import (
	"encoding/binary"
	"errors"
	"testing"
)

// unixAnswer is an answer with these attributes, each a type and a value.
func unixAnswer(attrs ...[2]uint32) []byte {
	b := make([]byte, unixMessageSize)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	for _, a := range attrs {
		b = binary.NativeEndian.AppendUint16(b, 8)
		b = binary.NativeEndian.AppendUint16(b, uint16(a[0]))
		b = binary.NativeEndian.AppendUint32(b, a[1])
	}
	return b
}

func TestUnixPeerIsReadFromTheAnswer(t *testing.T) {
	odd := append(unixAnswer(), 5, 0, 6, 0, 1, 0, 0, 0) // an attribute of one byte, padded
	odd = append(odd, unixAnswer([2]uint32{2, 77})[unixMessageSize:]...)
	failed := make([]byte, 36)
	binary.NativeEndian.PutUint16(failed[4:], nlmsgError)
	short := unixAnswer([2]uint32{2, 5})
	for _, c := range []struct {
		name string
		b    []byte
		want uint32
	}{
		{"alone", unixAnswer([2]uint32{2, 5}), 5},
		{"after others", unixAnswer([2]uint32{6, 1}, [2]uint32{2, 9}), 9},
		{"after a padded one", odd, 77},
		{"no peer", unixAnswer([2]uint32{6, 1}), 0},
		{"an error", failed, 0},
		{"cut", short[:len(short)-1], 0},
		{"nothing", nil, 0},
	} {
		got, err := unixPeer(c.b)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

func FuzzUnixPeer(f *testing.F) {
	f.Add(unixAnswer([2]uint32{6, 1}, [2]uint32{2, 9}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := unixPeer(b); err != nil && n != 0 {
			t.Errorf("%d and %v", n, err)
		} else if errors.Is(err, errNoSocket) && len(b) < nlmsgHeader {
			t.Error("no header is taken for an answer")
		}
	})
}
