package sandbox

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestBytesThatAreNoTextArriveAsTheyAre(t *testing.T) {
	all := make([]byte, 255)
	for i := range all {
		all[i] = byte(i + 1)
	}
	odd := []string{"", "plain", "\xff\n", string(all), "[", "é\u2028<", "\ufffd"}
	want := initConfig{Argv: odd, Env: odd, Dir: "/d\xfe", Landlock: rawLandlock{ABI: 5, Write: odd, Devices: odd}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got initConfig
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\n%+v", err, got, want)
	}
	stubs := rawStubs{{Path: "/\xff", Content: "c"}, {Path: "/b", Dir: true}}
	b2, err := json.Marshal(stubs)
	var stubs2 rawStubs
	if err = errors.Join(err, json.Unmarshal(b2, &stubs2)); err != nil || !reflect.DeepEqual(stubs2, stubs) {
		t.Errorf("%v\n%+v\n%+v", err, stubs2, stubs)
	}
	if !strings.Contains(string(b), `"plain"`) {
		t.Error("what is text is not sent as it is")
	}
}

func FuzzRaw(f *testing.F) {
	for _, s := range []string{`"x"`, `["/w=="]`, `[]`, `["",""]`, `null`, `[null]`, `{}`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again raw
		if json.Unmarshal(b, &r) != nil {
			return
		}
		out, err := json.Marshal(r)
		if err == nil {
			err = json.Unmarshal(out, &again)
		}
		if err != nil || again != r {
			t.Errorf("%q: %q, %q, %v", b, r, again, err)
		}
	})
}
