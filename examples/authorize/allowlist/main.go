// Command allowlist keeps a company's list of hosts for the sandboxes of a
// machine: one host or *.DOMAIN a line, read anew for every decision, so that it
// can be distributed like any other file. In a policy:
//
//	network:
//	  authorizer: {unix: /run/allowlist.sock, ttl: 5m}
//
// A host that is not on the list is left to the user, who is asked if the policy
// has ask: {}; one that is on it after a "!" is refused.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

// decide looks a host up; the last line that speaks of it counts.
func decide(list, host string) (verdict, id string) {
	verdict = "ask"
	n := 0
	for line := range strings.Lines(list) {
		n++
		line, _, _ = strings.Cut(line, "#")
		entry, no := strings.CutPrefix(strings.TrimSpace(line), "!")
		below, wide := strings.CutPrefix(entry, "*.")
		if entry == "" || entry != host && !(wide && strings.HasSuffix(host, "."+below)) {
			continue
		}
		verdict, id = "allow", fmt.Sprintf("line %d", n)
		if no {
			verdict = "deny"
		}
	}
	return verdict, id
}

// answer serves one connection: a line of JSON each way.
func answer(c net.Conn, file string) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return err
	}
	var request struct {
		ID   string `json:"id"`
		Host string `json:"host"`
	}
	if err := json.Unmarshal(line, &request); err != nil {
		return err
	}
	list, err := os.ReadFile(file)
	if err != nil {
		return err // no answer is a refusal
	}
	verdict, id := decide(string(list), request.Host)
	return json.NewEncoder(c).Encode(map[string]string{"id": request.ID, "verdict": verdict, "decision_id": id})
}

func serve(l net.Listener, file string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			if err := answer(c, file); err != nil {
				log.Print(err)
			}
		}()
	}
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: allowlist SOCKET FILE")
	}
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	serve(l, os.Args[2])
}
