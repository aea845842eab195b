package scope

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// fakeBus answers as a message bus with a service manager behind it, and hands
// out what was asked of that. answer is the name of an error, or empty.
func fakeBus(t *testing.T, answer string) (address string, asked <-chan []any) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	calls := make(chan []any, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		if err := welcome(c, in); err != nil {
			return
		}
		for {
			m, err := dbus.DecodeMessage(in)
			if err != nil {
				return
			}
			switch member, _ := m.Headers[dbus.FieldMember].Value().(string); member {
			case "StartTransientUnit":
				calls <- m.Body
				reply(c, m, answer, dbus.ObjectPath("/org/freedesktop/systemd1/job/7"))
			case "Ping":
				reply(c, m, answer, "")
			default:
				reply(c, m, "", ":1.1")
			}
		}
	}()
	return "unix:path=" + name, calls
}

// welcome lets every client in (the D-Bus Specification, "Authentication
// Protocol").
func welcome(c net.Conn, in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.Trim(line, "\x00\r\n")
		switch {
		case line == "BEGIN":
			return nil
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			fmt.Fprint(c, "DATA\r\n")
		case strings.HasPrefix(line, "DATA"):
			fmt.Fprint(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		case strings.HasPrefix(line, "AUTH"):
			fmt.Fprint(c, "REJECTED EXTERNAL\r\n")
		default:
			fmt.Fprint(c, "ERROR\r\n")
		}
	}
}

// reply answers a call, under the call's own serial number.
func reply(c net.Conn, m *dbus.Message, errName string, body any) {
	headers := map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(m.Serial())}
	m.Type, m.Body = dbus.TypeMethodReply, []any{body}
	if errName != "" {
		m.Type, m.Body = dbus.TypeError, []any{"no"}
		headers[dbus.FieldErrorName] = dbus.MakeVariant(errName)
	}
	headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	m.Headers = headers
	_ = m.EncodeTo(c, binary.LittleEndian)
}

func TestTheManagerIsAskedForOneProcessAndItsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		want   string
	}{
		"all":  {Limits{Memory: 1 << 30, Tasks: 132, CPU: 1.5}, "PIDs [4711] MemoryMax 1073741824 MemorySwapMax 0 TasksMax 132 CPUQuotaPerSecUSec 1500000"},
		"some": {Limits{Tasks: 33}, "PIDs [4711] TasksMax 33"},
	} {
		address, asked := fakeBus(t, "")
		if err := Start(address, "sallyport-x.scope", 4711, c.limits, time.Minute); err != nil {
			t.Fatal(err)
		}
		body := <-asked
		if len(body) != 4 || body[0] != "sallyport-x.scope" || body[1] != "fail" {
			t.Fatalf("asked: %v", body)
		}
		var got []string
		for _, p := range body[2].([][]any) {
			if p[0] != "Description" && p[0] != "CollectMode" {
				got = append(got, fmt.Sprint(p[0], " ", p[1].(dbus.Variant).Value()))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
	}
}

func TestWithoutAManagerThereIsNoScope(t *testing.T) {
	if err := Start("unix:path=/nonexistent/bus", "a.scope", 1, Limits{Tasks: 1}, time.Minute); !errors.Is(err, ErrNone) {
		t.Errorf("no bus: %v", err)
	}
	address, _ := fakeBus(t, "org.freedesktop.DBus.Error.ServiceUnknown")
	if err := Start(address, "a.scope", 1, Limits{Tasks: 1}, time.Minute); !errors.Is(err, ErrNone) {
		t.Errorf("no manager: %v", err)
	}
	address, _ = fakeBus(t, "org.freedesktop.DBus.Error.AccessDenied")
	if err := Start(address, "a.scope", 1, Limits{Tasks: 1}, time.Minute); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("refused: %v", err)
	}
}

func TestWhetherAManagerAnswersIsAsked(t *testing.T) {
	address, _ := fakeBus(t, "")
	if err := Ask(address, time.Minute); err != nil {
		t.Error(err)
	}
	address, _ = fakeBus(t, "org.freedesktop.DBus.Error.ServiceUnknown")
	if err := Ask(address, time.Minute); !errors.Is(err, ErrNone) {
		t.Errorf("no manager: %v", err)
	}
	if err := Ask("unix:path=/nonexistent/bus", time.Minute); !errors.Is(err, ErrNone) {
		t.Errorf("no bus: %v", err)
	}
}

func TestAManagerThatSaysNothingIsNotWaitedForForEver(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun := time.Now()
	if err := Start("unix:path="+l.Addr().String(), "a.scope", 1, Limits{Tasks: 1}, 100*time.Millisecond); err == nil {
		t.Error("started")
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}
