package agent

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzRequest puts packets together and reads what comes of it: no bytes may do
// more than be refused, and what was read is written back the same.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"status":{}}`,
		`{"id":2,"nonce":"00","register":{"pid":5,"env":{"Home":"/h","Cwd":"/h"},"files":[{"name":"p","data":"e30="}]}}`,
		`{"id":3,"attach":{"sandbox":"0123456789ab"}}`,
		`{"id":4,"process_of":{"UDP":true,"From":"10.0.0.1:5","To":"[::1]:53"}}`,
		`{"id":5,"report":{"number":1,"event":{"verdict":"deny","layer":"proxy","operation":"net.connect","reason":"not-allowed"}}}`,
		`{"id":6,"logs":{"after":"x"}}`,
		`{"id":7,"start":{},"end":{}}`,
	} {
		f.Add([]byte("\x00"+seed), []byte(nil))
		f.Add([]byte("\x01"+seed[:10]), []byte("\x00"+seed[10:]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var j joiner
		for _, p := range [][]byte{first, second} {
			whole, err := j.add(p)
			if err != nil || whole == nil {
				continue
			}
			r, err := decodeRequest(whole)
			if err != nil {
				continue
			}
			if r.Register != nil {
				_, _ = r.Register.parse(nil) // an error is as good
			}
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatalf("%s: %v", whole, err)
			}
			again, err := decodeRequest(b)
			if err != nil {
				t.Fatalf("%s was read, %s was not: %v", whole, b, err)
			}
			if c, _ := json.Marshal(again); !bytes.Equal(b, c) {
				t.Fatalf("%s became %s", b, c)
			}
		}
	})
}
