package loader

import (
	"fmt"
	"testing"
)

func TestBasic(t *testing.T) {
	w := newWorld(t, Options{})
	b := w.add(everything)
	cmd := b.command("/bin/sh", "-c", "cd /proc/self; echo x > ../sys/kernel/ostype; echo y > /proc/version; cat /proc/self/../../etc/hostname; exec python3 -c 'import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ntry: s.connect((\"192.0.2.1\",99))\nexcept Exception as e: print(e)\ntry: socket.socket(socket.AF_INET,socket.SOCK_RAW,1)\nexcept Exception as e: print(e)\ntry: socket.socket(socket.AF_UNIX,socket.SOCK_STREAM).connect(\"/var/nothing\")\nexcept Exception as e: print(e)'")
	fmt.Println(cmd.Run())
	for _, r := range b.records() {
		fmt.Printf("%s %s %s %+v rule=%s proc=%+v anc=%d\n", r.Call, r.Event.Operation, r.Event.Errno, r.Event.Object, r.Event.Rule, *r.Event.Process, len(r.Event.Ancestors))
	}
	c, err := w.l.Counters()
	fmt.Printf("%+v %v\n", c, err)
}
