package seatbelt

import "bytes"

// lineMemory keeps a few lines for those that come after: most of a line is,
// byte by byte, what stood in its place in one before, and need not be read
// again. It is bounded, whatever the lines are.
type lineMemory struct {
	buf     []byte   // of unescaped strings
	members []member // of the line that is being read
	shapes  [4]lineShape
	last    int // the shape that fitted last
}

// What a shape may have at most; of what is more, none is made.
const (
	maxShape   = 4096
	maxMembers = 64
)

// member says where the value of a member is in its line.
type member struct {
	key      int
	from, to int
}

// lineShape is a line that was JSON, and what it said. A value may take the place
// of another in it, and it is JSON still, with the same members: so where a line
// is different only there, these values are all that must be read.
type lineShape struct {
	line    []byte
	members []member
	varies  []bool   // by member: has been different
	varying []member // those that have
	read    jsonLine
}

// reread reads a line that has the shape of one before.
func (mem *lineMemory) reread(line []byte) (jsonLine, bool) {
	for n := range mem.shapes {
		i := (mem.last + n) % len(mem.shapes)
		if j, ok := mem.shapes[i].reread(line, mem); ok {
			mem.last = i
			return j, true
		}
	}
	return jsonLine{}, false
}

func (s *lineShape) reread(line []byte, mem *lineMemory) (jsonLine, bool) {
	if len(s.members) == 0 || !bytes.HasPrefix(line, s.head()) {
		return jsonLine{}, false
	}
	j := s.read
	j.b, j.pos, j.mem = line, 0, mem
	at := 0
	for _, m := range s.varying {
		same := s.line[at:m.from]
		if !bytes.HasPrefix(j.b[j.pos:], same) {
			return jsonLine{}, false
		}
		j.pos += len(same)
		if j.value(m.key) != nil {
			return jsonLine{}, false
		}
		at = m.to
	}
	return j, bytes.Equal(j.b[j.pos:], s.line[at:])
}

// head is what comes before the first value that varies.
func (s *lineShape) head() []byte {
	if len(s.varying) == 0 {
		return s.line
	}
	return s.line[:s.varying[0].from]
}

// learn keeps a line that was read member by member.
func (mem *lineMemory) learn(j *jsonLine) {
	if len(j.b) > maxShape || len(mem.members) == 0 || len(mem.members) > maxMembers {
		return
	}
	for i := range mem.shapes {
		if s := &mem.shapes[i]; s.like(j.b, mem.members) {
			s.adapt(j.b, mem.members)
			s.take(j, mem.members)
			return
		}
	}
	mem.last = (mem.last + 1) % len(mem.shapes)
	s := &mem.shapes[mem.last]
	s.varies = append(s.varies[:0], make([]bool, len(mem.members))...)
	s.take(j, mem.members)
}

// like reports whether a line is the shape's but for values.
func (s *lineShape) like(line []byte, members []member) bool {
	if len(members) != len(s.members) {
		return false
	}
	at, sat := 0, 0
	for i, m := range members {
		sm := s.members[i]
		if !bytes.Equal(line[at:m.from], s.line[sat:sm.from]) {
			return false
		}
		at, sat = m.to, sm.to
	}
	return bytes.Equal(line[at:], s.line[sat:])
}

// adapt notes which values are not those of the line before.
func (s *lineShape) adapt(line []byte, members []member) {
	for i, m := range members {
		sm := s.members[i]
		s.varies[i] = s.varies[i] || !bytes.Equal(line[m.from:m.to], s.line[sm.from:sm.to])
	}
}

// take makes a line the shape's.
func (s *lineShape) take(j *jsonLine, members []member) {
	s.line = append(s.line[:0], j.b...)
	s.members = append(s.members[:0], members...)
	s.read = *j
	s.read.b, s.read.mem = nil, nil
	s.varying = s.varying[:0]
	for i, m := range members {
		if p := s.read.raw(m.key); p != nil {
			*p = s.line[m.from+1 : m.to-1] // without its quotes
		}
		if s.varies[i] {
			s.varying = append(s.varying, m)
		}
	}
}
