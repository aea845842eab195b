package proxy

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
)

// fakeRange is what names in the sandbox resolve to: the benchmarking range of
// RFC 2544, which is never routed.
var fakeRange = netip.MustParsePrefix("198.18.0.0/15")

// firstFake leaves out the network's own address and 198.18.0.1, which is the
// sandbox's. The broadcast address is out of reach of the cap.
const firstFake = 0xC6120002 // 198.18.0.2

var errNamesFull = errors.New("too many names")

// fakeTable gives each name an address of its own, the same for the life of the
// sandbox, never used again for another.
type fakeTable struct {
	mu     sync.RWMutex
	byName map[string]netip.Addr
	names  []string // names[i] has address firstFake+i
}

func newFakeTable() *fakeTable {
	return &fakeTable{byName: map[string]netip.Addr{}}
}

// addr gives the address of a canonical name, a new one while there are fewer
// than most names.
func (t *fakeTable) addr(name string, most int) (netip.Addr, error) {
	t.mu.RLock()
	a, ok := t.byName[name]
	t.mu.RUnlock()
	if ok {
		return a, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if a, ok := t.byName[name]; ok {
		return a, nil
	}
	if len(t.names) >= most {
		return netip.Addr{}, errNamesFull
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], firstFake+uint32(len(t.names)))
	a = netip.AddrFrom4(b)
	t.names = append(t.names, name)
	t.byName[name] = a
	return a, nil
}

// name gives the name an address was given to.
func (t *fakeTable) name(a netip.Addr) (string, bool) {
	if !a.Is4() {
		return "", false
	}
	b := a.As4()
	i := int64(binary.BigEndian.Uint32(b[:])) - firstFake
	t.mu.RLock()
	defer t.mu.RUnlock()
	if i < 0 || i >= int64(len(t.names)) {
		return "", false
	}
	return t.names[i], true
}

func (t *fakeTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.names)
}
