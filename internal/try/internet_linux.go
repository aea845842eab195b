package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// The names of this internet. An address must look public: a policy refuses
// the others whatever its rules say.
var names = map[string][4]byte{
	"api.test.":       {93, 184, 215, 14},
	"telemetry.test.": {93, 184, 215, 15},
}

const (
	literal = "93.184.215.16" // a host without a name
	udpPort = 514
)

// internet counts what reaches its servers.
type internet struct {
	mu   sync.Mutex
	hits map[string]int // "http api.test", "udp 514", "dns api.test"
}

func (n *internet) hit(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hits[what]++
}

func (n *internet) saw(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hits[what]
}

// startInternet starts the servers on every address there is.
func startInternet() (*internet, error) {
	n := &internet{hits: map[string]int{}}
	web, err := net.Listen("tcp4", ":80")
	if err != nil {
		return nil, fmt.Errorf("start web server: %w", err)
	}
	go func() { _ = http.Serve(web, http.HandlerFunc(n.page)) }() // ends with the program
	for _, s := range []struct {
		port   int
		answer func(question []byte) []byte
	}{{53, n.dns}, {udpPort, n.datagram}} {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: s.port})
		if err != nil {
			return nil, fmt.Errorf("start server on UDP port %d: %w", s.port, err)
		}
		go serveUDP(c, s.answer)
	}
	return n, nil
}

func serveUDP(c *net.UDPConn, answer func([]byte) []byte) {
	buf := make([]byte, 4096)
	for {
		size, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if a := answer(buf[:size]); a != nil {
			_, _ = c.WriteTo(a, from) // who asks asks again
		}
	}
}

func (n *internet) page(w http.ResponseWriter, r *http.Request) {
	n.hit("http " + r.Host)
	fmt.Fprintf(w, "hello from %s\n", r.Host)
}

func (n *internet) datagram([]byte) []byte {
	n.hit(fmt.Sprintf("udp %d", udpPort))
	return nil
}

// dns answers a question for an address; every other question has no answer.
func (n *internet) dns(question []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	n.hit("dns " + strings.TrimSuffix(name, "."))
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	addr, ok := names[name]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	if ok && q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: addr},
		}}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}
