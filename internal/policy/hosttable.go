package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// hostTable finds entries by host in a time that does not grow with their
// number: names by map, addresses by one look-up for each prefix length in use.
type hostTable struct {
	names    map[string][]hostEntry
	below    map[string][]hostEntry
	prefixes map[netip.Prefix][]hostEntry
	bits4    []int // prefix lengths in use, longest first
	bits6    []int
	all      []hostEntry
}

func newHostTable(entries []hostEntry) *hostTable {
	t := &hostTable{names: make(map[string][]hostEntry, len(entries)), below: map[string][]hostEntry{},
		prefixes: map[netip.Prefix][]hostEntry{}}
	for _, e := range entries {
		switch e.kind {
		case hostName:
			t.names[e.name] = append(t.names[e.name], e)
		case hostBelow:
			t.below[e.name] = append(t.below[e.name], e)
		case hostPrefix:
			t.addPrefix(e)
		case hostAll:
			t.all = append(t.all, e)
		}
	}
	longestFirst := func(a, b int) int { return b - a }
	slices.SortFunc(t.bits4, longestFirst)
	slices.SortFunc(t.bits6, longestFirst)
	return t
}

func (t *hostTable) addPrefix(e hostEntry) {
	t.prefixes[e.prefix] = append(t.prefixes[e.prefix], e)
	bits := &t.bits6
	if e.prefix.Addr().Is4() {
		bits = &t.bits4
	}
	if !slices.Contains(*bits, e.prefix.Bits()) {
		*bits = append(*bits, e.prefix.Bits())
	}
}

// each calls use with the entries that match a host, whatever their port, the
// most specific first, until use returns false.
func (t *hostTable) each(h Host, use func(hostEntry) bool) {
	if h.IsAddr() {
		if !t.eachPrefix(h.Addr, use) {
			return
		}
	} else if !t.eachName(h.Name, use) {
		return
	}
	visit(t.all, use)
}

func (t *hostTable) eachName(name string, use func(hostEntry) bool) bool {
	if !visit(t.names[name], use) {
		return false
	}
	if len(t.below) == 0 {
		return true
	}
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return true
		}
		if !visit(t.below[parent], use) {
			return false
		}
		name = parent
	}
}

func (t *hostTable) eachPrefix(addr netip.Addr, use func(hostEntry) bool) bool {
	bits := t.bits6
	if addr.Is4() {
		bits = t.bits4
	}
	for _, n := range bits {
		p, err := addr.Prefix(n)
		if err == nil && !visit(t.prefixes[p], use) {
			return false
		}
	}
	return true
}

func visit(entries []hostEntry, use func(hostEntry) bool) bool {
	for _, e := range entries {
		if !use(e) {
			return false
		}
	}
	return true
}

// deny gives the most specific entry that denies a host and port.
func (t *hostTable) deny(h Host, port uint16) (found hostEntry, ok bool) {
	t.each(h, func(e hostEntry) bool {
		if e.port == 0 || e.port == port {
			found, ok = e, true
		}
		return !ok
	})
	return found, ok
}

// portSMTP is reached only by an entry that names it: mail can carry anything
// to anyone.
const portSMTP = 25

// allow gives the most specific entry that allows a host and port; other is
// an entry for the host and another port.
func (t *hostTable) allow(h Host, port uint16) (found, other hostEntry, ok bool) {
	t.each(h, func(e hostEntry) bool {
		if e.port == port || e.port == 0 && port != portSMTP {
			found, ok = e, true
		} else if other.kind == hostNone {
			other = e
		}
		return !ok
	})
	return found, other, ok
}
