package registry

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTheRuntimeDirectoryComesFirst(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		home string
		want []string
	}{
		"a session":          {map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}, "/home/u", []string{"/run/user/7/sallyport", "/home/u/.local/state/sallyport/run"}},
		"elsewhere":          {map[string]string{"XDG_RUNTIME_DIR": "/tmp/x"}, "/home/u", []string{"/tmp/x/sallyport", "/run/user/7/sallyport", "/home/u/.local/state/sallyport/run"}},
		"no XDG directories": {nil, "/home/u", []string{"/run/user/7/sallyport", "/home/u/.local/state/sallyport/run"}},
		"a state directory":  {map[string]string{"XDG_STATE_HOME": "/state"}, "/home/u", []string{"/run/user/7/sallyport", "/state/sallyport/run"}},
		"relative values":    {map[string]string{"XDG_RUNTIME_DIR": "x", "XDG_STATE_HOME": "y"}, "/home/u", []string{"/run/user/7/sallyport", "/home/u/.local/state/sallyport/run"}},
		"no home":            {nil, "", []string{"/run/user/7/sallyport"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Dirs(func(k string) string { return test.env[k] }, test.home, 7); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestASandboxIsFoundByWhatNamesItAlone(t *testing.T) {
	list := []Entry{{ID: "aaaa1111", Name: "one"}, {ID: "aaaa2222", Name: "two"}, {ID: "bbbb", Name: "twin"}, {ID: "cccc", Name: "twin"}, {ID: "one2", Name: "aaaa1111"}}
	for what, want := range map[string]any{
		"aaaa1111": "aaaa1111", "one": "aaaa1111", "aaaa2": "aaaa2222", "two": "aaaa2222",
		"aaaa": ErrAmbiguous, "twin": ErrAmbiguous, "aaa": ErrNone, "": ErrNone, "none": ErrNone,
	} {
		e, err := Find(list, what)
		if wanted, ok := want.(error); ok {
			if !errors.Is(err, wanted) {
				t.Errorf("%q: %+v, %v", what, e, err)
			}
		} else if e.ID != want || err != nil {
			t.Errorf("%q: %+v, %v", what, e, err)
		}
	}
}

func TestAnEntrySurvivesItsFile(t *testing.T) {
	want := Entry{ID: "abc", Name: "n\x1b\n", PID: 77, Start: time.Unix(1, 2).UTC(), Command: []string{"a", ""}, Dir: "/d", Tier: "rootless", Host: Host{"b", "p"}}
	data, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse("abc.json", data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, file := range map[string]string{
		"abd.json": string(data), "abc": string(data), "../abc.json": string(data), "abc.json": "{",
		".json": `{"id":"","pid":77}`, "x.json": `{"id":"x","pid":1}`, "y.json": `{"id":"y","pid":-5}`,
	} {
		if e, err := parse(name, []byte(file)); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestALongCommandDoesNotMakeALongEntry(t *testing.T) {
	e := Entry{ID: "abc", PID: 7, Command: []string{"a", strings.Repeat("b", 100<<10), "c"}}
	data, err := e.encode()
	if err != nil || len(data) > maxEntry {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if got, err := parse("abc.json", data); err != nil || strings.Join(got.Command, " ") != "a …" {
		t.Errorf("%q, %v", got.Command, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"id":"abc","pid":77,"command":["a"]}`, `{"id":"abc","pid":1e99}`, `null`, ``, `{"id":"abc","pid":2}{`} {
		f.Add("abc.json", []byte(s))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e, err := parse(name, data)
		if err != nil {
			return
		}
		if e.PID <= 1 || e.ID+".json" != name || strings.ContainsAny(e.ID, "/.\x00") {
			t.Errorf("%q: %+v", name, e)
		}
	})
}
