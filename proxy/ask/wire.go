package ask

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Message is one line of a sandbox's socket, either way; only what its type
// needs is set.
type Message struct {
	Type string `json:"type"`

	// To the client.
	Hello   *Hello       `json:"hello,omitempty"`
	Request *Request     `json:"request,omitempty"`
	Settled *Settled     `json:"settled,omitempty"`
	Event   *event.Event `json:"event,omitempty"`
	Lost    uint64       `json:"lost,omitempty"` // events that it was too slow for
	List    []Remembered `json:"list,omitempty"`
	N       int          `json:"n,omitempty"` // of what was forgotten
	ID      string       `json:"id,omitempty"`
	Error   string       `json:"error,omitempty"`

	// To the sandbox.
	Want  []string `json:"want,omitempty"` // with hello: ask, events
	Reply *Reply   `json:"reply,omitempty"`
	Match string   `json:"match,omitempty"`
}

// Types of messages. A line without a type is a reply alone.
const (
	TypeHello   = "hello"   // first, both ways
	TypeAsk     = "ask"     // a request
	TypeSettled = "settled" // a request that was answered, or is over
	TypeEvent   = "event"
	TypeLost    = "lost"
	TypeError   = "error"
	TypeOK      = "ok"

	TypeAnswer = "answer" // reply
	TypeGrant  = "grant"  // reply: an answer before there is a question
	TypeList   = "list"
	TypeForget = "forget"
)

// What a client can want.
const (
	WantAsk    = "ask"
	WantEvents = "events"
)

// Hello says whose socket it is.
type Hello struct {
	V       int        `json:"v"`
	Session string     `json:"session"`
	Name    event.Text `json:"name,omitempty"`
	Asking  bool       `json:"asking"`
	// Remembers says whether scope always is to be had.
	Remembers bool `json:"remembers"`
}

// maxLine bounds what a client sends.
const maxLine = 2 * MaxReply

// parseMessage reads a client's line.
func parseMessage(line []byte) (Message, error) {
	fields, err := object(line)
	if err != nil {
		return Message{}, err
	}
	if _, typed := fields["type"]; !typed {
		r, err := ParseReply(line)
		return Message{Type: TypeAnswer, Reply: &r}, err
	}
	var m Message
	into := map[string]any{"type": &m.Type, "want": &m.Want, "match": &m.Match}
	for name, raw := range fields {
		if name == "reply" {
			r, replyErr := ParseReply(raw)
			m.Reply, err = &r, errors.Join(err, replyErr)
			continue
		}
		if to := into[name]; to == nil {
			err = errors.Join(err, fmt.Errorf("unknown field %q", name))
		} else if e := json.Unmarshal(raw, to); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
		}
	}
	if err == nil {
		err = m.check()
	}
	return m, err
}

func (m *Message) check() error {
	switch m.Type {
	case TypeHello:
		for _, w := range m.Want {
			if w != WantAsk && w != WantEvents {
				return fmt.Errorf("want %q: %s or %s", w, WantAsk, WantEvents)
			}
		}
	case TypeAnswer, TypeGrant:
		if m.Reply == nil {
			return fmt.Errorf("%s without a reply", m.Type)
		}
	case TypeList, TypeForget:
	default:
		return fmt.Errorf("unknown type %q", m.Type)
	}
	return nil
}

// writeWait is how long a client may be too slow to take a line.
const writeWait = 5 * time.Second

// Client is somebody at a sandbox's socket.
type Client struct {
	Hello Hello
	conn  net.Conn
	br    *bufio.Reader
}

// Dial connects to a sandbox's socket. want says what the client is there for:
// who wants to be asked holds connections up until there is an answer.
func Dial(path string, want ...string) (*Client, error) {
	conn, err := dialUnix(path)
	if err != nil {
		return nil, fmt.Errorf("reach sandbox: %w", err)
	}
	c := &Client{conn: conn, br: bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(writeWait))
	m := Message{}
	if err = c.Send(Message{Type: TypeHello, Want: want}); err == nil {
		m, err = c.Next()
	}
	if err == nil && m.Hello == nil {
		err = errors.New("it did not say who it is")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("reach sandbox: %w", err)
	}
	conn.SetDeadline(time.Time{})
	c.Hello = *m.Hello
	return c, nil
}

// Send sends one message.
func (c *Client) Send(m Message) error {
	line, err := Encode(m)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(line)
	return err
}

// Next waits for the next message.
func (c *Client) Next() (Message, error) {
	line, err := c.br.ReadBytes('\n')
	if err != nil {
		return Message{}, err
	}
	var m Message
	err = json.Unmarshal(line, &m)
	return m, err
}

// Call sends a message and gives the answer to it; what comes between is
// dropped.
func (c *Client) Call(m Message) (Message, error) {
	c.conn.SetDeadline(time.Now().Add(writeWait))
	defer c.conn.SetDeadline(time.Time{})
	if err := c.Send(m); err != nil {
		return Message{}, err
	}
	for {
		got, err := c.Next()
		switch {
		case err != nil:
			return got, err
		case got.Type == TypeError:
			return got, errors.New(event.Text(got.Error).Printable())
		case got.Type == TypeOK || got.Type == TypeList:
			return got, nil
		}
	}
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
