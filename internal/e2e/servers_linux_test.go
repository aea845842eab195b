package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// names out there; every other name does not exist.
var names = map[string][]string{
	"allowed.test.": {thereV4}, "also.allowed.test.": {thereV4}, "denied.test.": {otherV4}, "git.test.": {thereV4},
	"ssh.test.": {thereV4}, "mail.test.": {thereV4}, "six.test.": {thereV6},
	"rebind.test.": {"127.0.0.1"}, "rebind6.test.": {"::1"}, "metadata.test.": {"169.254.169.254"}, "evil.localhost.": {"169.254.169.254"},
	"here.test.": {hereV4}, "mixed.test.": {thereV4, "10.0.0.1"}, "mixed6.test.": {thereV4, "fd00:ec2::254"},
}

// servers is the internet: it answers, and remembers who came.
type servers struct {
	ca       string // path of the certificate authority
	tls      *tls.Config
	gitRoot  string
	mu       sync.Mutex
	hits     map[string]int // "tcp 1.2.3.4:80", "udp 443", "dns NAME", "bytes 1.2.3.4:80"
	packets  int            // that had come in before the last reset
	failures []error
	todo     chan func() // run on the far side's thread
}

func (s *servers) hit(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[what] += n
}

// reached tells how often something has come since the last reset.
func (s *servers) reached(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[what]
}

// all lists what has come since the last reset.
func (s *servers) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.hits)
}

// arrived is all, and "packets": how many have come in, whatever they were.
func (s *servers) arrived() map[string]int {
	out := s.all()
	if n := s.countPackets() - s.packets; n != 0 {
		out["packets"] = n
	}
	return out
}

func (s *servers) reset() {
	s.packets = s.countPackets()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits = map[string]int{}
}

// countPackets asks the far side's kernel how many packets have come in: every
// IPv4 packet, and of IPv6 whatever is not the link's own discovery.
func (s *servers) countPackets() int {
	var snmp, snmp6 []byte
	err := s.there(func() (err error) {
		if snmp, err = os.ReadFile("/proc/thread-self/net/snmp"); err == nil {
			snmp6, err = os.ReadFile("/proc/thread-self/net/snmp6")
		}
		return err
	})
	n := 0
	var titles []string
	for line := range strings.Lines(string(snmp)) {
		f := strings.Fields(line)
		if len(titles) == 0 || titles[0] != f[0] {
			titles = f
			continue
		}
		for i, v := range f {
			if t := f[0] + titles[i]; t == "Ip:InReceives" || t == "Tcp:InSegs" {
				n += number(v)
			}
		}
	}
	for line := range strings.Lines(string(snmp6)) {
		switch f := strings.Fields(line); f[0] {
		case "Udp6InDatagrams", "Udp6NoPorts", "Icmp6InEchos":
			n += number(f[1])
		}
	}
	if err != nil || n == 0 && len(titles) == 0 {
		panic(fmt.Sprintf("count packets: %v: %q", err, snmp))
	}
	return n
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func (s *servers) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failures...)
}

// loop runs functions on the far side's thread, for tests that start a server
// of their own there.
func (s *servers) loop() {
	for f := range s.todo {
		f()
	}
}

// there runs f on the far side: sockets it makes, and processes it starts, live
// there.
func (s *servers) there(f func() error) error {
	done := make(chan error, 1)
	s.todo <- func() { done <- f() }
	return <-done
}

func startServers() (*servers, error) {
	s := &servers{hits: map[string]int{}, todo: make(chan func())}
	cert, err := s.makeCA()
	if err != nil {
		return nil, err
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	if err := s.makeRepository(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s%s\n", r.Host, r.URL.Path) })
	mux.Handle("/git/", s.git())
	web := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)} // clients that go away are the point
	for _, l := range []struct {
		port  string
		serve func(net.Listener)
	}{
		{"80", func(l net.Listener) { _ = web.Serve(l) }},
		{"8080", func(l net.Listener) { _ = web.Serve(l) }},
		{"443", func(l net.Listener) { _ = web.Serve(tls.NewListener(l, s.tls)) }},
		{"8443", func(l net.Listener) { _ = web.Serve(tls.NewListener(l, s.tls)) }},
		{"25", greet("220 mail.test ESMTP\r\n")},
		{"853", greet("")},
		{"2525", greet("220 mail.test ESMTP\r\n")},
	} {
		// [::] takes IPv4 too.
		inner, err := net.Listen("tcp", "[::]:"+l.port)
		if err != nil {
			return nil, err
		}
		go l.serve(countingListener{inner, s})
	}
	for _, port := range []int{443, 5000, 123} {
		if err := s.sink(port); err != nil {
			return nil, err
		}
	}
	return s, s.dns()
}

// countingListener writes down every connection.
type countingListener struct {
	net.Listener
	s *servers
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	a := c.LocalAddr().(*net.TCPAddr).AddrPort()
	to := netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
	l.s.hit("tcp "+to, 1)
	return countingConn{c, l.s, "bytes " + to}, nil
}

// countingConn writes down what it reads.
type countingConn struct {
	net.Conn
	s    *servers
	what string
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.s.hit(c.what, n)
	}
	return n, err
}

// greet is a protocol in which the server speaks first.
func greet(banner string) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, banner)
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}
}

// sink counts UDP packets on a port.
func (s *servers) sink(port int) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			if _, _, err := c.ReadFrom(buf); err != nil {
				return
			}
			s.hit(fmt.Sprintf("udp %d", port), 1)
		}
	}()
	return nil
}

// dns answers for names, and writes down what is asked.
func (s *servers) dns() error {
	c, err := net.ListenPacket("udp", dnsV4+":53")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := s.answer(buf[:n]); err == nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	return nil
}

func (s *servers) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("bad query: %w", err)
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	s.hit("dns "+strings.TrimSuffix(name, "."), 1)
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	addrs, ok := names[name]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range addrs {
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch a := netip.MustParseAddr(text); {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}

// makeCA makes a certificate authority and a certificate for every name.
func (s *servers) makeCA() (tls.Certificate, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sallyport test CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	// With its key's identifier, which Python 3.13 wants to see in the other.
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"*.allowed.test"}, // no "*.test": to rustls that is no name
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.ParseIP(thereV4)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for n := range names {
		leaf.DNSNames = append(leaf.DNSNames, strings.TrimSuffix(n, "."))
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	s.ca = filepath.Join(base, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(s.ca, text, 0o644)
}

// makeRepository makes a repository with one commit, to be cloned.
func (s *servers) makeRepository() error {
	s.gitRoot = filepath.Join(base, "git")
	script := `set -e; git init -q --bare "$1/r.git"; git init -q "$1/w"; cd "$1/w"
echo hello > file; git add file; git -c user.name=t -c user.email=t@t commit -qm one; git push -q "$1/r.git" HEAD:refs/heads/main
git -C "$1/r.git" symbolic-ref HEAD refs/heads/main`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", s.gitRoot)
	cmd.Env = append(os.Environ(), "HOME="+base, "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make repository: %w: %s", err, out)
	}
	return nil
}

// git serves the repository over smart HTTP.
func (s *servers) git() http.Handler {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return http.NotFoundHandler()
	}
	return &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Root: "/git",
		Env: []string{"GIT_PROJECT_ROOT=" + s.gitRoot, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + base,
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
}
