package agent

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/process"
)

// conn is one connection. Its requests are handled one after the other.
type conn struct {
	s      *Server
	c      *net.UnixConn
	peer   *process.Process
	uid    uint32
	gid    uint32
	nonce  string // empty: it came back
	in     joiner
	held   int // bytes of unfinished messages accounted for
	box    atomic.Pointer[box]
	out    *outbox
	warmed bool // see prepare
	ending atomic.Bool
	said   sync.Once // of foreign senders
}

// serve handles a connection until it ends.
func (s *Server) serve(c *net.UnixConn) {
	defer c.Close()
	defer func() {
		// Whatever a client can provoke must not end the record of all others.
		if r := recover(); r != nil {
			s.warn(fmt.Sprintf("a request was given up: %v\n%s", r, debug.Stack()))
		}
	}()
	// What a listener accepts may have been made before that was told (a service
	// manager's): who speaks before the greeting is not known, and turned away.
	if err := onFD(c, passCredentials); err != nil {
		s.warn(err.Error())
		return
	}
	peer, cred, err := peerOf(c)
	if err != nil {
		return // it has gone
	}
	defer peer.Close()
	if err := s.quotas.connect(cred.Uid); err != nil {
		return
	}
	defer s.quotas.disconnect(cred.Uid)
	k := &conn{s: s, c: c, peer: peer, uid: cred.Uid, gid: cred.Gid, nonce: newNonce(), out: newOutbox()}
	if !s.enter(k) {
		return
	}
	defer s.leave(k)
	sent := make(chan struct{})
	go func() { defer close(sent); k.sendAll() }()
	defer func() { k.stop(); <-sent }()
	k.send(message{Greeting: &greeting{version, k.nonce}})
	k.read()
}

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// stop ends sending, once what is queued was sent.
func (k *conn) stop() {
	k.out.close()
	_ = k.c.SetWriteDeadline(time.Now().Add(lastWords))
	k.ending.Store(true)
}

// read handles requests until the connection ends or does what it may not.
func (k *conn) read() {
	defer func() { _ = k.s.quotas.hold(k.uid, -k.held) }()
	r := &packetReader{conn: k.c}
	for {
		k.deadline()
		packet, from, err := r.next()
		switch {
		case errors.Is(err, errDescriptors):
			k.send(message{Refusal: refuse("", err.Error())})
			continue
		case err != nil:
			return
		case from.pid != k.peer.PID || from.uid != k.uid || k.peer.Alive() != nil:
			k.foreign(from)
			continue
		}
		whole, err := k.in.add(packet)
		if err == nil {
			err = k.account()
		}
		if err != nil {
			k.send(message{Refusal: refuse("", err.Error())})
			return
		}
		if whole == nil {
			continue
		}
		if !k.request(whole) {
			return
		}
	}
}

// deadline: only a sandbox's connection may be silent.
func (k *conn) deadline() {
	var limit time.Time
	switch {
	case k.in.begun() > 0:
		limit = time.Now().Add(messageLimit)
	case k.box.Load() == nil:
		limit = time.Now().Add(idleLimit)
	}
	_ = k.c.SetReadDeadline(limit)
	if k.s.draining.Load() { // set before the deadlines of all were
		_ = k.c.SetReadDeadline(time.Now())
	}
}

// account holds the unfinished message against the user's share.
func (k *conn) account() error {
	n := k.in.begun()
	err := k.s.quotas.hold(k.uid, n-k.held)
	if err == nil {
		k.held = n
	}
	return err
}

// foreign is a packet of somebody who is not the one who connected: the socket was
// handed on. Nothing is done or answered, so that the one who connected notices
// nothing; it is recorded once.
func (k *conn) foreign(from sender) {
	k.s.refused.Add(1)
	if b := k.box.Load(); b != nil {
		k.said.Do(func() { k.s.foreign(b, from) })
	}
}

// request handles one message. It reports whether to go on.
func (k *conn) request(b []byte) bool {
	req, err := decodeRequest(b)
	if err != nil {
		k.s.refused.Add(1)
		k.send(message{Refusal: refuse("", err.Error())})
		return false
	}
	if k.nonce != "" && req.Nonce != k.nonce {
		k.send(message{ID: req.ID, Refusal: refuse("", "the greeting was not heard")})
		return false
	}
	k.nonce = ""
	if err := k.s.check.Outside(k.peer); err != nil {
		k.s.refused.Add(1)
		k.send(message{ID: req.ID, Refusal: refuse("", err.Error())})
		return false
	}
	m, files, err := k.handle(req)
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			r = refuse("", err.Error())
		}
		m = &message{Refusal: r}
		k.s.refused.Add(1)
	}
	if m == nil { // no answer is wanted
		return true
	}
	m.ID = req.ID
	return k.sendFiles(*m, files)
}

// send queues an answer, however long the queue is: each is asked for.
func (k *conn) send(m message) bool { return k.sendFiles(m, nil) }

func (k *conn) sendFiles(m message, files []*os.File) bool {
	o, err := outgoingOf(m, files)
	if err != nil {
		k.s.warn("encode an answer: " + err.Error())
		return false
	}
	return k.out.answer(o)
}

// tell queues what nobody has asked for, if there is room. It never waits.
func (k *conn) tell(m message) {
	if o, err := outgoingOf(m, nil); err == nil {
		k.out.offer(o)
	}
}

func outgoingOf(m message, files []*os.File) (outgoing, error) {
	b, err := json.Marshal(m)
	o := outgoing{packets: cut(b), files: files, size: len(b)}
	if err != nil {
		o.close()
	}
	return o, err
}

// sendAll sends what is queued until the connection ends. A caller that is
// stopped (Ctrl-Z) must not lose its sandbox for not reading.
func (k *conn) sendAll() {
	defer k.c.Close() // the reader ends, too
	defer k.out.drop()
	for {
		o, ok := k.out.take()
		if !ok {
			return
		}
		limit := sendLimit
		switch {
		case k.ending.Load():
			limit = lastWords
		case k.box.Load() != nil:
			limit = 0
		}
		err := sendPackets(k.c, o.packets, o.files, limit)
		o.close()
		if err != nil {
			return
		}
	}
}
