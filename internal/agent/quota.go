package agent

import (
	"fmt"
	"sync"
	"time"
)

// buffered is how much of unfinished messages one user may have the agent hold.
const buffered = 2 * messageMax

// quotas counts what each user has.
type quotas struct {
	limits Limits
	mu     sync.Mutex
	users  map[uint32]*usage
}

// usage is one user's. It is kept for as long as the user has a connection or a
// sandbox, and until the events' bucket is full again.
type usage struct {
	connections, sandboxes int
	bytes                  int // of unfinished messages
	events                 float64
	since                  time.Time // when events was right
}

func newQuotas(l Limits) *quotas {
	l.setDefaults()
	return &quotas{limits: l, users: map[uint32]*usage{}}
}

func (q *quotas) of(uid uint32, now time.Time) *usage {
	u := q.users[uid]
	if u == nil {
		if len(q.users) > 1024 {
			q.forget(now)
		}
		u = &usage{events: q.limits.EventsBurst, since: now}
		q.users[uid] = u
	}
	return u
}

// forget drops users who have nothing and whose bucket is full.
func (q *quotas) forget(now time.Time) {
	for uid, u := range q.users {
		if u.connections == 0 && u.sandboxes == 0 && u.events+now.Sub(u.since).Seconds()*q.limits.EventsRate >= q.limits.EventsBurst {
			delete(q.users, uid)
		}
	}
}

// connect counts a connection in.
func (q *quotas) connect(uid uint32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.of(uid, time.Now())
	if u.connections >= q.limits.Connections+q.limits.Sandboxes {
		return fmt.Errorf("user %d has %d connections", uid, u.connections)
	}
	u.connections++
	return nil
}

func (q *quotas) disconnect(uid uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of(uid, time.Now()).connections--
}

// enter counts a sandbox in; forced: one that is there already.
func (q *quotas) enter(uid uint32, forced bool) *Refusal {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.of(uid, time.Now())
	if u.sandboxes >= q.limits.Sandboxes && !forced {
		return refuse("end one of them first", fmt.Sprintf("user %d has %d sandboxes, which is the limit", uid, u.sandboxes))
	}
	u.sandboxes++
	return nil
}

func (q *quotas) leave(uid uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of(uid, time.Now()).sandboxes--
}

// hold accounts for n bytes more, or fewer, of unfinished messages.
func (q *quotas) hold(uid uint32, n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.of(uid, time.Now())
	if n > 0 && u.bytes+n > buffered {
		return fmt.Errorf("user %d has %d bytes of unfinished messages", uid, u.bytes)
	}
	u.bytes += n
	return nil
}

// event reports whether one more event of this user may be written.
func (q *quotas) event(uid uint32, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.of(uid, now)
	if d := now.Sub(u.since); d > 0 {
		u.events = min(q.limits.EventsBurst, u.events+d.Seconds()*q.limits.EventsRate)
		u.since = now
	}
	if u.events < 1 {
		return false
	}
	u.events--
	return true
}

// spend takes from a user's events what costs as much time.
func (q *quotas) spend(uid uint32, events float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of(uid, time.Now()).events -= events
}

// sandboxes is how many a user has.
func (q *quotas) sandboxes(uid uint32) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if u := q.users[uid]; u != nil {
		return u.sandboxes
	}
	return 0
}
