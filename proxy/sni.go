package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// hello is what a ClientHello says, and its bytes as they came.
type hello struct {
	serverName string
	raw        []byte
}

var (
	errHelloTooLong = errors.New("the ClientHello is too long")
	errNotTLS       = errors.New("not a TLS ClientHello")
	errHaveHello    = errors.New("have the ClientHello") // ends the handshake
)

// readHello reads a ClientHello of at most max bytes, however it is cut into
// records and segments. What was read is in raw even when it fails, so that
// nothing is lost to a caller that goes on; more may be buffered in br.
func readHello(br *bufio.Reader, max int, mem *memory) (hello, error) {
	tee := &helloTee{br: br, left: max, held: hold{m: mem}}
	defer tee.held.release()
	var h hello
	found := false
	srv := tls.Server(tee, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			h.serverName, found = info.ServerName, true
			return nil, errHaveHello
		},
	})
	err := srv.Handshake()
	h.raw = tee.got
	switch {
	case found:
		return h, nil
	case tee.err != nil:
		return h, tee.err
	case err == nil:
		return h, errNotTLS
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return h, errNotTLS
	}
	return h, errors.Join(errNotTLS, err)
}

// helloTee is a connection that keeps what is read and swallows what is
// written: the alert that ends the handshake goes nowhere.
type helloTee struct {
	br   *bufio.Reader
	left int
	got  []byte
	held hold
	err  error
}

func (t *helloTee) Read(b []byte) (int, error) {
	if t.left == 0 {
		t.err = errHelloTooLong
		return 0, t.err
	}
	if !t.held.grow(len(t.got) + readerSize) {
		t.err = errMemory
		return 0, t.err
	}
	n, err := t.br.Read(b[:min(len(b), t.left)])
	t.left -= n
	t.got = append(t.got, b[:n]...)
	if err != nil {
		t.err = err
		if err == io.EOF {
			t.err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (t *helloTee) Write(b []byte) (int, error)      { return len(b), nil }
func (t *helloTee) Close() error                     { return nil }
func (t *helloTee) LocalAddr() net.Addr              { return nil }
func (t *helloTee) RemoteAddr() net.Addr             { return nil }
func (t *helloTee) SetDeadline(time.Time) error      { return nil }
func (t *helloTee) SetReadDeadline(time.Time) error  { return nil }
func (t *helloTee) SetWriteDeadline(time.Time) error { return nil }

// kind is what the first bytes of a client look like.
type kind uint8

const (
	kindOther kind = iota
	kindTLS
	kindHTTP
	kindSSH
)

// sniff guesses the protocol from the first bytes, at least one.
func sniff(b []byte) kind {
	switch {
	case len(b) == 0:
		return kindOther
	case b[0] == 0x16 && (len(b) < 2 || b[1] == 3): // handshake record, TLS 1.x
		return kindTLS
	case len(b) >= 4 && string(b[:4]) == "SSH-":
		return kindSSH
	}
	// A method and a space.
	for i, c := range b {
		switch {
		case c == ' ' && i > 0:
			return kindHTTP
		case c < 'A' || c > 'Z' || i > 16:
			return kindOther
		}
	}
	return kindHTTP
}
