// Package desktop asks and tells the user on the desktop, through the
// notifications of org.freedesktop.Notifications on the session's D-Bus. It
// decides nothing: an answer is one key of a notification, and anything else is
// none.
//
// The session's bus is never in the reach of a sandbox. What it is shown is text
// that a sandbox may have chosen: it is escaped twice, for people, and for
// notifications that read markup.
package desktop

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// The specification's names (Desktop Notifications Specification 1.2).
const (
	service = "org.freedesktop.Notifications"
	object  = dbus.ObjectPath("/org/freedesktop/Notifications")
	appName = "sallyport"
)

// callWait bounds a call: a notification server that hangs must not hold
// anything up.
const callWait = 5 * time.Second

// Bus is a connection to who shows notifications.
type Bus struct {
	conn    *dbus.Conn
	actions bool // it shows buttons
	markup  bool // it reads bodies as markup

	mu    sync.Mutex
	owner string // of the service
	open  map[uint32]func(key string)
	gone  func()
	ended bool
}

// ErrNoActions is for a server on which nothing can be answered.
var ErrNoActions = errors.New("the desktop's notifications have no buttons")

// Connect finds the notification server of the session. It is an error if there
// is none.
func Connect() (*Bus, error) {
	type result struct {
		b   *Bus
		err error
	}
	done := make(chan result, 1)
	go func() {
		b, err := connect()
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("reach the desktop: %w", r.err)
		}
		return r.b, nil
	case <-time.After(callWait):
		go func() {
			if r := <-done; r.b != nil {
				r.b.Close()
			}
		}()
		return nil, fmt.Errorf("reach the desktop: no answer within %s", callWait)
	}
}

func connect() (*Bus, error) {
	addr, err := address()
	if err != nil {
		return nil, err
	}
	conn, err := dbus.Connect(addr)
	if err != nil {
		return nil, err
	}
	b := &Bus{conn: conn, open: map[uint32]func(string){}}
	if err := b.begin(); err != nil {
		conn.Close()
		return nil, err
	}
	return b, nil
}

// address is where the session's bus is. None is started: without one there is
// no desktop.
func address() (string, error) {
	addr := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if addr == "" {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if !filepath.IsAbs(dir) {
			return "", errors.New("no session bus")
		}
		bus := filepath.Join(dir, "bus")
		if _, err := os.Stat(bus); err != nil {
			return "", err
		}
		addr = "unix:path=" + dbus.EscapeBusAddressValue(bus)
	}
	if strings.HasPrefix(addr, "autolaunch:") {
		return "", errors.New("no session bus")
	}
	return addr, nil
}

func (b *Bus) begin() error {
	var caps []string
	if err := b.call("GetCapabilities").Store(&caps); err != nil { // starts the server where it can be
		return err
	}
	b.actions, b.markup = slices.Contains(caps, "actions"), slices.Contains(caps, "body-markup")
	ctx, cancel := context.WithTimeout(context.Background(), callWait)
	defer cancel()
	if err := b.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, service).Store(&b.owner); err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 64)
	b.conn.Signal(signals)
	for _, m := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface(service), dbus.WithMatchObjectPath(object)},
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, service)},
	} {
		if err := b.conn.AddMatchSignal(m...); err != nil {
			return err
		}
	}
	go b.hear(signals)
	return nil
}

// CanAsk reports whether a notification can be answered.
func (b *Bus) CanAsk() bool { return b.actions }

// OnGone has f called when the server goes away, at once if it has.
func (b *Bus) OnGone(f func()) {
	b.mu.Lock()
	b.gone = f
	ended := b.ended
	b.mu.Unlock()
	if ended {
		f()
	}
}

// Close ends the connection.
func (b *Bus) Close() { b.conn.Close() }

func (b *Bus) call(method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(context.Background(), callWait)
	defer cancel()
	return b.conn.Object(service, object).CallWithContext(ctx, service+"."+method, 0, args...)
}

// Note is a notification.
type Note struct {
	Summary, Body string
	Urgent        bool
	Expire        time.Duration // 0: it stays
	Replaces      uint32
	// Keys and Labels are its buttons; Pressed is called with a key, once.
	Keys, Labels []string
	Pressed      func(key string)
}

// Show shows a notification and gives its number.
func (b *Bus) Show(n Note) (uint32, error) {
	body := n.Body
	if b.markup {
		body = html.EscapeString(body)
	}
	actions := []string{}
	for i := range n.Keys {
		actions = append(actions, n.Keys[i], n.Labels[i])
	}
	hints := map[string]dbus.Variant{"urgency": dbus.MakeVariant(byte(1)), "category": dbus.MakeVariant("network")}
	if n.Urgent {
		hints["urgency"] = dbus.MakeVariant(byte(2))
	}
	// A button can be pressed before the number is known here: signals wait.
	b.mu.Lock()
	defer b.mu.Unlock()
	var id uint32
	err := b.call("Notify", appName, n.Replaces, "dialog-password", n.Summary, body, actions, hints, int32(n.Expire/time.Millisecond)).Store(&id)
	if err != nil {
		return 0, fmt.Errorf("show a notification: %w", err)
	}
	if n.Pressed != nil {
		b.open[id] = n.Pressed
	}
	return id, nil
}

// Hide takes a notification away.
func (b *Bus) Hide(id uint32) {
	b.mu.Lock()
	delete(b.open, id)
	b.mu.Unlock()
	_ = b.call("CloseNotification", id).Err // gone: nothing to hide
}

// hear takes the server's signals, and nobody else's: anybody on the bus can
// send one.
func (b *Bus) hear(signals <-chan *dbus.Signal) {
	for s := range signals {
		switch s.Name {
		case "org.freedesktop.DBus.NameOwnerChanged":
			if s.Sender == "org.freedesktop.DBus" {
				b.end()
			}
		case service + ".ActionInvoked":
			var id uint32
			var key string
			if dbus.Store(s.Body, &id, &key) == nil {
				b.pressed(s.Sender, id, key)
			}
		case service + ".NotificationClosed":
			var id, why uint32
			if dbus.Store(s.Body, &id, &why) == nil && why == dismissed {
				b.pressed(s.Sender, id, Dismissed)
			}
		}
	}
	b.end() // the bus has gone
}

// dismissed is why a notification was closed: the user did.
const dismissed = 2

// Dismissed stands for a key where a notification was closed by the user.
const Dismissed = ""

func (b *Bus) pressed(sender string, id uint32, key string) {
	b.mu.Lock()
	f := b.open[id]
	if sender != b.owner {
		f = nil
	} else {
		delete(b.open, id)
	}
	b.mu.Unlock()
	if f != nil {
		f(key)
	}
}

func (b *Bus) end() {
	b.mu.Lock()
	gone := b.gone
	if b.ended {
		gone = nil
	}
	b.ended = true
	clear(b.open)
	b.mu.Unlock()
	if gone != nil {
		gone()
	}
}
