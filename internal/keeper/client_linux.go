package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/sallyport/sallyport/internal/event"
)

// Handler takes what a keeper sends, from one goroutine.
type Handler struct {
	Denied func(Record)
	Lost   func(op event.Operation, n uint64)
}

// Client is the supervisor's end.
type Client struct {
	conn     *net.UnixConn
	handler  Handler
	hello    chan Hello // holds one, once
	greeted  sync.Once
	greeting Hello
	done     chan struct{}

	sending sync.Mutex // of conn
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan message // nil: the keeper has gone
}

// errGone: the keeper ended before its run.
var errGone = errors.New("the process that keeps the kernel side of the run has ended")

// Attach takes a keeper's socket over. Nothing is read before Serve.
func Attach(f *os.File) (*Client, error) {
	conn, err := unixConn(f)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, hello: make(chan Hello, 1), done: make(chan struct{}), waiting: map[uint64]chan message{}}, nil
}

// Serve starts to hand on what the keeper sends.
func (c *Client) Serve(h Handler) {
	c.handler = h
	go c.read()
}

func (c *Client) read() {
	in := json.NewDecoder(c.conn)
	for {
		var m message
		if err := in.Decode(&m); err != nil {
			break
		}
		c.take(m)
	}
	c.mu.Lock()
	for _, w := range c.waiting {
		close(w)
	}
	c.waiting = nil
	c.mu.Unlock()
	close(c.hello)
	close(c.done)
}

func (c *Client) take(m message) {
	switch {
	case m.Hello != nil:
		select {
		case c.hello <- *m.Hello:
		default: // one is enough
		}
	case m.Record != nil:
		c.handler.Denied(*m.Record)
	case m.Lost > 0:
		var op event.Operation
		_ = op.UnmarshalText([]byte(m.Op)) // unknown stays unknown
		c.handler.Lost(op, m.Lost)
	default:
		c.mu.Lock()
		w := c.waiting[m.Reply]
		delete(c.waiting, m.Reply)
		c.mu.Unlock()
		if w != nil {
			w <- m
		}
	}
}

// Hello waits for what the keeper found out about the kernel.
func (c *Client) Hello() Hello {
	c.greeted.Do(func() {
		h, ok := <-c.hello
		if !ok {
			h.Err = errGone.Error()
		}
		c.greeting = h
	})
	return c.greeting
}

// Done is closed when the keeper has gone.
func (c *Client) Done() <-chan struct{} { return c.done }

func (c *Client) ask(r request, f *os.File) (message, error) {
	w := make(chan message, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return message{}, errGone
	}
	c.next++
	r.ID = c.next
	c.waiting[r.ID] = w
	c.mu.Unlock()
	c.sending.Lock()
	err := send(c.conn, r, f)
	c.sending.Unlock()
	if err != nil {
		return message{}, fmt.Errorf("ask the keeper: %w", err)
	}
	m, ok := <-w
	switch {
	case !ok:
		return m, errGone
	case m.Err != "":
		return m, errors.New(m.Err)
	}
	return m, nil
}

// Place makes the sandbox and moves the process into it.
func (c *Client) Place(pid int, pidfd *os.File, rules Rules) error {
	_, err := c.ask(request{Op: opPlace, PID: pid, Rules: &rules}, pidfd)
	return err
}

// Start begins the record. root is the sandbox's root folder.
func (c *Client) Start(root *os.File) error {
	_, err := c.ask(request{Op: opStart}, root)
	return err
}

// ByPID says who a process of the sandbox is, as the kernel has it; nil where
// that is not known.
func (c *Client) ByPID(pid int) (*event.Process, []event.Process) {
	return c.who(request{Op: opByPID, PID: pid})
}

// ByConnection says who made a connection.
func (c *Client) ByConnection(conn Connection) (*event.Process, []event.Process) {
	return c.who(request{Op: opByConn, Conn: &conn})
}

func (c *Client) who(r request) (*event.Process, []event.Process) {
	m, err := c.ask(r, nil)
	if err != nil || m.Who == nil {
		return nil, nil
	}
	return m.Who.Process, m.Who.Ancestors
}

// Flush returns when everything that has happened was handed on.
func (c *Client) Flush() error {
	_, err := c.ask(request{Op: opFlush}, nil)
	return err
}

// End returns when the kernel side of the run has gone, and nothing more will
// be handed on.
func (c *Client) End() error {
	_, err := c.ask(request{Op: opEnd}, nil)
	c.conn.Close()
	<-c.done
	return err
}

// Abandon lets the keeper go without waiting for it.
func (c *Client) Abandon() { c.conn.Close() }
