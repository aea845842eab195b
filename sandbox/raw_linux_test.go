package sandbox

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

func TestPathsThatAreNoTextAreJournalledAsTheyAre(t *testing.T) {
	stubs := rawStubs{{Path: "/\xff", Content: "c"}, {Path: "/b", Dir: true}}
	b, err := json.Marshal(stubs)
	var got rawStubs
	if err = errors.Join(err, json.Unmarshal(b, &got)); err != nil || !reflect.DeepEqual(got, stubs) {
		t.Errorf("%v\n%+v\n%+v", err, got, stubs)
	}
}
