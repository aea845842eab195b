package stage2

import (
	"encoding/json"
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
	want := Config{Argv: odd, Env: odd, Dir: "/d\xfe", Landlock: Landlock{ABI: 5, Write: odd, Devices: odd}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\n%+v", err, got, want)
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
		var r, again Raw
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
