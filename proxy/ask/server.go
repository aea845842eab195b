package ask

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Server lets programs of the user's answer, and hear what happens, through a
// unix socket of mode 0600.
type Server struct {
	b    *Broker
	path string
	l    net.Listener
	// expected: somebody is said to come, so that a question waits for them.
	expected *Watcher

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

// maxClients bounds the programs at one sandbox's socket.
const maxClients = 16

// Listen makes the socket at path, which must not exist, and serves it. expected
// says that somebody will come who answers: questions wait for them.
func Listen(b *Broker, path string, expected bool) (*Server, error) {
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("make ask socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // others' connections are refused besides
		l.Close()
		return nil, fmt.Errorf("make ask socket: %w", err)
	}
	s := &Server{b: b, path: path, l: l, conns: map[net.Conn]struct{}{}}
	if expected {
		s.expected = b.Watch(true, false)
	}
	s.wg.Go(s.accept)
	return s, nil
}

// Path is where the socket is.
func (s *Server) Path() string {
	if abs, err := filepath.Abs(s.path); err == nil {
		return abs
	}
	return s.path
}

// Close ends every connection and takes the socket away.
func (s *Server) Close() {
	s.mu.Lock()
	s.ended = true
	s.l.Close()
	for c := range s.conns {
		c.SetReadDeadline(time.Unix(1, 0)) // what is to be told still goes out
	}
	s.mu.Unlock()
	s.wg.Wait()
	if s.expected != nil {
		s.expected.Stop()
	}
	os.Remove(s.path)
}

func (s *Server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			s.mu.Lock()
			ended := s.ended
			s.mu.Unlock()
			if ended {
				return
			}
			time.Sleep(50 * time.Millisecond) // out of descriptors
			continue
		}
		s.mu.Lock()
		full := s.ended || len(s.conns) >= maxClients
		if !full {
			s.conns[c] = struct{}{}
			s.wg.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
		if full {
			c.Close()
		}
	}
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	if err := checkPeer(c); err != nil {
		return
	}
	x := &client{b: s.b, conn: c, sent: map[string]Request{}}
	if s.expected != nil {
		x.arrived = func() { s.expected.Absent(false) } // from now on it is those who came
	}
	x.run()
}

// client is one connection.
type client struct {
	b    *Broker
	conn net.Conn
	wmu  sync.Mutex
	sent map[string]Request // requests that it knows of
	// arrived, if set, is called when there is somebody who answers.
	arrived func()
}

func (x *client) run() {
	br := bufio.NewReaderSize(x.conn, maxLine)
	x.conn.SetReadDeadline(time.Now().Add(writeWait))
	m, err := x.read(br)
	if err != nil || m.Type != TypeHello {
		x.send(Message{Type: TypeError, Error: "begin with {\"type\":\"hello\",\"want\":[\"ask\",\"events\"]}"})
		return
	}
	x.conn.SetReadDeadline(time.Time{})
	x.send(Message{Type: TypeHello, Hello: &Hello{V: Version, Session: x.b.cfg.Session, Name: event.Text(x.b.cfg.Name),
		Asking: x.b.cfg.Asking, Remembers: x.b.CanRemember()}})

	w := x.b.Watch(slices.Contains(m.Want, WantAsk), slices.Contains(m.Want, WantEvents))
	asks := slices.Contains(m.Want, WantAsk)
	if asks && x.arrived != nil {
		x.arrived()
	}
	stop, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		x.tellAll(w, asks, stop)
	}()
	x.listen(br)
	// What is open is refused before the client hears of it.
	w.Stop()
	close(stop)
	<-told
}

// read gives the client's next message. An error means that there is no sense
// in reading on, but where the message says which request it is about.
func (x *client) read(br *bufio.Reader) (Message, error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return Message{}, err
	}
	return parseMessage(line)
}

// listen serves what the client says until it goes, or says what is nothing.
func (x *client) listen(br *bufio.Reader) {
	for {
		m, err := x.read(br)
		if err != nil {
			if m.Reply != nil && m.Reply.ID != "" {
				// No answer is a refusal, and so is one that cannot be read.
				_ = x.b.Reply(Reply{ID: m.Reply.ID}, "socket") // gone: so be it
				x.send(Message{Type: TypeError, ID: m.Reply.ID, Error: err.Error()})
				continue
			}
			x.send(Message{Type: TypeError, Error: err.Error()})
			return
		}
		x.handle(m)
	}
}

func (x *client) handle(m Message) {
	answer, err := Message{Type: TypeOK}, error(nil)
	switch m.Type {
	case TypeAnswer:
		answer.ID = m.Reply.ID
		err = x.b.Reply(*m.Reply, "socket")
	case TypeGrant:
		err = x.b.Grant(*m.Reply, "socket")
	case TypeList:
		answer = Message{Type: TypeList, List: x.b.Remembered()}
	case TypeForget:
		answer.N = x.b.Forget(m.Match)
	default:
		err = fmt.Errorf("%q again", m.Type)
	}
	if err != nil {
		answer = Message{Type: TypeError, ID: answer.ID, Error: err.Error()}
	}
	x.send(answer)
}

// tellAll sends what there is to know until stop, and what there was by then.
func (x *client) tellAll(w *Watcher, asks bool, stop <-chan struct{}) {
	for last := false; !last; {
		select {
		case <-w.C:
		case <-stop:
			last = true
		}
		if asks {
			x.tellRequests()
		}
		events, lost := w.Events()
		for i := range events {
			x.send(Message{Type: TypeEvent, Event: &events[i]})
		}
		if lost > 0 {
			x.send(Message{Type: TypeLost, Lost: lost})
		}
	}
}

// tellRequests sends what is new and what is over.
func (x *client) tellRequests() {
	open := map[string]bool{}
	for _, r := range x.b.Pending() {
		open[r.ID] = true
		if known, ok := x.sent[r.ID]; !ok || known.Pending != r.Pending {
			x.sent[r.ID] = r
			x.send(Message{Type: TypeAsk, Request: &r})
		}
	}
	for id := range x.sent {
		if !open[id] {
			delete(x.sent, id)
			s, _ := x.b.Outcome(id)
			x.send(Message{Type: TypeSettled, Settled: &s})
		}
	}
}

// send sends a line; a client that does not take it is cut off.
func (x *client) send(m Message) {
	line, err := Encode(m)
	if err != nil {
		return
	}
	x.wmu.Lock()
	defer x.wmu.Unlock()
	x.conn.SetWriteDeadline(time.Now().Add(writeWait))
	if _, err := x.conn.Write(line); err != nil {
		x.conn.Close()
	}
}
