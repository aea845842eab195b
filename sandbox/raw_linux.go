package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/plan"
)

// Paths, arguments and variables are any bytes but NUL. A string of JSON is
// UTF-8, and what is not would be replaced on its way; it travels as [base64].
type (
	raw         string
	rawList     []string
	rawLandlock plan.Landlock
)

// MarshalJSON implements json.Marshaler.
func (r raw) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(r)) {
		return json.Marshal(string(r))
	}
	return json.Marshal([1][]byte{[]byte(r)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *raw) UnmarshalJSON(b []byte) error {
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
	*r = raw(one[0])
	return nil
}

// MarshalJSON implements json.Marshaler.
func (l rawList) MarshalJSON() ([]byte, error) {
	out := make([]raw, len(l))
	for i, s := range l {
		out[i] = raw(s)
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *rawList) UnmarshalJSON(b []byte) error {
	var in []raw
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*l = nil
	for _, r := range in {
		*l = append(*l, string(r))
	}
	return nil
}

type landlockOnTheWay struct {
	ABI            int
	Write, Devices rawList
}

// MarshalJSON implements json.Marshaler.
func (l rawLandlock) MarshalJSON() ([]byte, error) {
	return json.Marshal(landlockOnTheWay{l.ABI, l.Write, l.Devices})
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *rawLandlock) UnmarshalJSON(b []byte) error {
	var in landlockOnTheWay
	err := json.Unmarshal(b, &in)
	*l = rawLandlock{ABI: in.ABI, Write: in.Write, Devices: in.Devices}
	return err
}

// rawStubs is how placeholders are journalled.
type rawStubs []plan.Stub

type rawStub struct {
	plan.Stub
	Path raw // in the place of the other
}

// MarshalJSON implements json.Marshaler.
func (s rawStubs) MarshalJSON() ([]byte, error) {
	out := make([]rawStub, len(s))
	for i, stub := range s {
		out[i] = rawStub{stub, raw(stub.Path)}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *rawStubs) UnmarshalJSON(b []byte) error {
	var in []rawStub
	err := json.Unmarshal(b, &in)
	*s = nil
	for _, stub := range in {
		stub.Stub.Path = string(stub.Path)
		*s = append(*s, stub.Stub)
	}
	return err
}
