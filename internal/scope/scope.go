// Package scope puts a process of the user's into a scope of the user's own
// service manager, which bounds what it may use: the one way to a cgroup for who
// is not root. It knows systemd's D-Bus interface and nothing of sandboxes.
//
// A scope ends with its last process; nothing has to be removed.
package scope

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/godbus/dbus/v5"
)

// ErrNone: the user has no service manager that could be asked.
var ErrNone = errors.New("no service manager of the user's answers")

// Limits bound what is in a scope; see systemd.resource-control(5).
type Limits struct {
	Memory uint64  // bytes; nothing is swapped then
	Tasks  uint64  // processes and threads
	CPU    float64 // processors
}

type property struct {
	Name  string
	Value dbus.Variant
}

type auxiliary struct {
	Name       string
	Properties []property
}

// properties is what a scope of one process is made of.
func properties(pid int, l Limits) []property {
	list := []property{
		{"PIDs", dbus.MakeVariant([]uint32{uint32(pid)})},
		{"Description", dbus.MakeVariant("sallyport sandbox")},
		// One that failed is not kept.
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
	}
	add := func(name string, v uint64) { list = append(list, property{name, dbus.MakeVariant(v)}) }
	if l.Memory > 0 {
		add("MemoryMax", l.Memory)
		add("MemorySwapMax", 0)
	}
	if l.Tasks > 0 {
		add("TasksMax", l.Tasks)
	}
	if l.CPU > 0 {
		add("CPUQuotaPerSecUSec", uint64(math.Round(l.CPU*1e6)))
	}
	return list
}

// Start asks the manager on the bus at an address for a scope with a process in
// it. That the manager has agreed does not mean that it is done, nor that the
// kernel does as it is told: the caller looks.
func Start(address, name string, pid int, l Limits, limit time.Duration) error {
	err := call(address, limit, "org.freedesktop.systemd1.Manager.StartTransientUnit", name, "fail", properties(pid, l), []auxiliary{})
	if err != nil && !errors.Is(err, ErrNone) {
		return fmt.Errorf("start scope %s: %w", name, err)
	}
	return err
}

// Ask returns nil if a manager on the bus at an address answers.
func Ask(address string, limit time.Duration) error {
	return call(address, limit, "org.freedesktop.DBus.Peer.Ping")
}

func call(address string, limit time.Duration, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	defer conn.Close()
	manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	err = manager.CallWithContext(ctx, method, 0, args...).Err
	var failed dbus.Error
	if errors.As(err, &failed) && failed.Name == "org.freedesktop.DBus.Error.ServiceUnknown" {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	return err
}
