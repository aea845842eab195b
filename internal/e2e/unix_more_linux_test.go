package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// The user's bus starts programs outside for who asks.
func TestTheUsersBusIsReachedOnlyWhenListed(t *testing.T) {
	h := newHome(t)
	runtime := h.mkdir("runtime")
	if err := os.Chmod(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	bus := h.serveUnix(filepath.Join(runtime, "bus"))
	h.env = append(h.env, "XDG_RUNTIME_DIR="+runtime, "DBUS_SESSION_BUS_ADDRESS=unix:path="+bus.path)
	r := h.attack("uconnect stream " + bus.path + ": ENOENT|EACCES")
	if e := r.recorded(event.UnixConnect, nil); string(e.Object.Path) != bus.path {
		t.Errorf("recorded:\n%s", describe(r.events))
	}
	bus.untouched(t)
	h.usePolicy("network: {allowUnixSockets: [" + bus.path + "]}\n")
	h.attack("uconnect stream " + bus.path + ": ok").nothingDenied()
	if n := bus.count.Load(); n != 1 {
		t.Errorf("%d connections arrived", n)
	}
}

// tsx compiles through a server on a path in the temporary directory.
func TestTsxWorks(t *testing.T) {
	tsx := os.Getenv("SALLYPORT_TSX")
	if tsx == "" {
		t.Skip("tsx comes from npm: 'make test-full' installs it and names it by SALLYPORT_TSX")
	}
	h := newHome(t)
	h.write("work/lib.ts", "export const greet = (who: string): string => `hello ${who}`\n")
	script := h.write("work/main.ts", "import { greet } from './lib'\nconst n: number = 6 * 7\nconsole.log(greet(`tsx ${n}`))\n")
	h.run(tsx, script).ok().says("hello tsx 42\n").nothingDenied()
}
