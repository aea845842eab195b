package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// link is one connection to an agent, and the answers that are waited for.
type link struct {
	conn    *net.UnixConn
	writing sync.Mutex // of conn, and of nonce: never held together with mu for long
	nonce   string

	mu      sync.Mutex
	unasked func(message) // takes what the agent says by itself; called from one goroutine
	next    uint32
	waiting map[uint32]chan answer
	err     error // why it ended
	ended   chan struct{}
}

type answer struct {
	message
	files []*os.File
}

// dial connects and reads the greeting.
func dial(path string, unasked func(message)) (*link, error) {
	c, err := connect(path)
	if err != nil {
		return nil, err
	}
	return greeted(c, unasked)
}

func connect(path string) (*net.UnixConn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("reach agent: %w", err)
	}
	return c, nil
}

// greeted reads the greeting.
func greeted(c *net.UnixConn, unasked func(message)) (*link, error) {
	l := &link{conn: c, unasked: unasked, waiting: map[uint32]chan answer{}, ended: make(chan struct{})}
	_ = c.SetReadDeadline(time.Now().Add(answerLimit))
	m, err := newReceiver(c).next()
	switch {
	case err == nil && m.Refusal != nil:
		err = m.Refusal
	case err == nil && m.Greeting == nil:
		err = errors.New("no greeting")
	case err == nil && m.Greeting.Version != version:
		err = fmt.Errorf("it speaks version %d of the protocol, this program %d", m.Greeting.Version, version)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("reach agent: %w", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	l.nonce = m.Greeting.Nonce
	go l.receive()
	return l, nil
}

func (l *link) receive() {
	r := newReceiver(l.conn)
	for {
		m, err := r.next()
		if err != nil {
			l.fail(err)
			return
		}
		l.mu.Lock()
		w := l.waiting[m.ID]
		delete(l.waiting, m.ID)
		unasked := l.unasked
		l.mu.Unlock()
		switch {
		case m.ID == 0 && m.Refusal != nil: // of the connection
			l.fail(m.Refusal)
			return
		case w != nil:
			w <- m
		default:
			m.close()
			unasked(m.message)
		}
	}
}

func (a answer) close() { outgoing{files: a.files}.close() }

func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	l.conn.Close()
	close(l.ended)
}

func (l *link) close() { l.fail(net.ErrClosed) }

// post sends a request. With a channel, the answer goes there; else to unasked.
func (l *link) post(r request, w chan answer) error {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return l.err
	}
	l.next++
	r.ID = l.next
	if w != nil {
		l.waiting[r.ID] = w
	}
	l.mu.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	r.Nonce, l.nonce = l.nonce, ""
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if err := sendPackets(l.conn, cut(b), nil, 0); err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	return nil
}

// ask sends a request and waits for its answer.
func (l *link) ask(r request) (answer, error) {
	w := make(chan answer, 1)
	if err := l.post(r, w); err != nil {
		return answer{}, err
	}
	return l.await(w)
}

func (l *link) await(w chan answer) (answer, error) {
	timeout := time.NewTimer(answerLimit)
	defer timeout.Stop()
	select {
	case a := <-w:
		if a.Refusal != nil {
			a.close()
			return a, a.Refusal
		}
		return a, nil
	case <-l.ended:
		l.mu.Lock()
		defer l.mu.Unlock()
		return answer{}, fmt.Errorf("ask agent: %w", l.err)
	case <-timeout.C:
		return answer{}, errors.New("ask agent: no answer")
	}
}

// receiver puts messages together.
type receiver struct {
	conn *net.UnixConn
	in   joiner
	buf  [1 + packetData]byte
	oob  [4096]byte
}

func newReceiver(c *net.UnixConn) *receiver { return &receiver{conn: c} }

func (r *receiver) next() (a answer, err error) {
	for {
		n, on, _, _, err := r.conn.ReadMsgUnix(r.buf[:], r.oob[:])
		if err != nil {
			return a, err
		}
		a.files = append(a.files, filesOf(r.oob[:on])...)
		whole, err := r.in.add(r.buf[:n])
		if err == nil && whole != nil {
			if err = json.Unmarshal(whole, &a.message); err == nil {
				return a, nil
			}
		}
		if err != nil {
			a.close()
			return a, fmt.Errorf("read agent's message: %w", err)
		}
	}
}

func filesOf(oob []byte) (files []*os.File) {
	_, fds, _ := parseControl(oob) // the sender is known by the socket
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "audit log"))
	}
	return files
}
