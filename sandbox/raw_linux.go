package sandbox

import (
	"encoding/json"

	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// rawStubs is how placeholders are journalled.
type rawStubs []plan.Stub

type rawStub struct {
	plan.Stub
	Path stage2.Raw // in the place of the other
}

// MarshalJSON implements json.Marshaler.
func (s rawStubs) MarshalJSON() ([]byte, error) {
	out := make([]rawStub, len(s))
	for i, stub := range s {
		out[i] = rawStub{stub, stage2.Raw(stub.Path)}
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
