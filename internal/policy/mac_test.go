package policy

import (
	"fmt"
	"testing"
)

func TestMacRulesComeFromTheSharedKeys(t *testing.T) {
	parse := func(name, text string) *File {
		f, err := Parse(Source{Name: name, Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := parse("/p/a.yaml", "allowPty: true\nallowAppleEvents: true\nnetwork:\n  allowLocalBinding: true\n"+
		"  allowUnixSockets: [~/x.sock, \"/var/run/[a]\"]\n  allowMachLookup: [com.apple.x, \"com.apple.y.*\"]\n")
	second := parse("/p/b.yaml", "allowAppleEvents: false\nenableWeakerNetworkIsolation: true\nnetwork: {allowAllUnixSockets: true}\n")
	p, err := New(Env{Home: "/h", Cwd: "/h/w"}, first, second)
	if err != nil {
		t.Fatal(err)
	}
	want := "{true true [{/h/x.sock false false /p/a.yaml:5} {/var/run/[a] false false /p/a.yaml:5}] " +
		"[{com.apple.x false /p/a.yaml:6} {com.apple.y. true /p/a.yaml:6}] true false true}"
	if got := fmt.Sprint(p.Mac()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if p, err = New(Env{Home: "/h", Cwd: "/h/w"}); err != nil || fmt.Sprint(p.Mac()) != "{false false [] [] false false false}" {
		t.Errorf("without a file: %v %v", p.Mac(), err)
	}
	for _, bad := range []string{`["*"]`, `["a b"]`, `["a*b"]`, `["é"]`, `[""]`} {
		if _, err := Parse(Source{Name: "x", Data: []byte("network: {allowMachLookup: " + bad + "}")}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
