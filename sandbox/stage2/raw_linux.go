package stage2

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// Paths, arguments and variables are any bytes but NUL. A string of JSON is
// UTF-8, and what is not would be replaced on its way; it travels as [base64].
type (
	Raw     string
	RawList []string
)

// MarshalJSON implements json.Marshaler.
func (r Raw) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(r)) {
		return json.Marshal(string(r))
	}
	return json.Marshal([1][]byte{[]byte(r)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Raw) UnmarshalJSON(b []byte) error {
	if !bytes.HasPrefix(b, []byte("[")) {
		return json.Unmarshal(b, (*string)(r))
	}
	var one [][]byte
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	if len(one) != 1 {
		return errors.New("not one string")
	}
	*r = Raw(one[0])
	return nil
}

// MarshalJSON implements json.Marshaler.
func (l RawList) MarshalJSON() ([]byte, error) {
	out := make([]Raw, len(l))
	for i, s := range l {
		out[i] = Raw(s)
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *RawList) UnmarshalJSON(b []byte) error {
	var in []Raw
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*l = nil
	for _, r := range in {
		*l = append(*l, string(r))
	}
	return nil
}

// Landlock is what the payload may write (landlock(7)); reading is left to the
// mounts.
type Landlock struct {
	ABI     int
	Write   []string // everything below: write, create, remove, rename
	Devices []string // below these only opening for writing, and ioctl(2)
}

type landlockOnTheWay struct {
	ABI            int
	Write, Devices RawList
}

// MarshalJSON implements json.Marshaler.
func (l Landlock) MarshalJSON() ([]byte, error) {
	return json.Marshal(landlockOnTheWay{l.ABI, l.Write, l.Devices})
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Landlock) UnmarshalJSON(b []byte) error {
	var in landlockOnTheWay
	err := json.Unmarshal(b, &in)
	*l = Landlock{ABI: in.ABI, Write: in.Write, Devices: in.Devices}
	return err
}
