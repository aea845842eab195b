// Command service decides over HTTP, in the manner of Open Policy Agent: it takes
// {"input": request} at /v1/data/sallyport/allow and answers
// {"decision_id": …, "result": …}. In a policy:
//
//	network:
//	  authorizer: {http: "http://127.0.0.1:8181/v1/data/sallyport/allow"}
//
// The rule here: in working hours every host of the list, outside of them none.
package main

import (
	"crypto/rand"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"slices"
	"time"
)

// input is what the rule looks at of a request.
type input struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	Kind string `json:"kind"`
}

// allow is the rule.
func allow(in input, hosts []string, now time.Time) (bool, string) {
	switch {
	case in.Port != 443:
		return false, "only HTTPS"
	case now.Hour() < 8 || now.Hour() >= 18:
		return false, "not in working hours"
	case !slices.Contains(hosts, in.Host):
		return false, "not a host of ours"
	}
	return true, ""
}

// handler answers requests; now is the clock.
func handler(hosts []string, now func() time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/data/sallyport/allow", func(w http.ResponseWriter, q *http.Request) {
		var body struct {
			Input *input `json:"input"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, 64<<10)).Decode(&body); err != nil || body.Input == nil {
			http.Error(w, "send {\"input\": request}", http.StatusBadRequest)
			return
		}
		id := rand.Text()
		result := map[string]any{"verdict": "allow"}
		if ok, why := allow(*body.Input, hosts, now()); !ok {
			result = map[string]any{"verdict": "deny", "reason": why}
		}
		log.Printf("%s: %s port %d: %v", id, body.Input.Host, body.Input.Port, result)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"decision_id": id, "result": result}) // it has gone: so be it
	})
	return mux
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: service HOST...")
	}
	s := &http.Server{Addr: "127.0.0.1:8181", Handler: handler(os.Args[1:], time.Now), ReadTimeout: 5 * time.Second}
	log.Fatal(s.ListenAndServe())
}
