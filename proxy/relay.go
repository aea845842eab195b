package proxy

import (
	"errors"
	"sync/atomic"
	"time"
)

// errIdle is why a relay that moved nothing for too long ended.
var errIdle = errors.New("idle for too long")

// relay is one tunnel.
type relay struct {
	p                *Proxy
	client, upstream stream
	watch            *watch
	// first, if set, runs before client bytes move, while upstream's already do.
	first func() error
	// parting: the client is being told why, and must not be reset meanwhile.
	parting atomic.Bool
}

// run copies both ways until both directions have ended or one has failed, and
// closes both connections. A direction that ends closes only its own half of
// the other side.
func (r *relay) run() error {
	r.client.SetDeadline(time.Time{})
	r.upstream.SetDeadline(time.Time{})
	r.watch = newWatch(r.p.cfg.Limits.Idle, r.abort)
	defer r.watch.stop()

	down := make(chan error, 1)
	go func() { down <- r.direction(r.client, r.upstream, &r.p.count.bytesIn, nil) }()
	err := r.direction(r.upstream, r.client, &r.p.count.bytesOut, r.first)
	err = errors.Join(err, <-down)
	r.client.Close()
	r.upstream.Close()
	if r.watch.fired.Load() {
		return errIdle
	}
	return err
}

// abort ends both connections at once, so that a reset crosses the relay as one.
func (r *relay) abort() {
	if !r.parting.Load() {
		reset(r.client)
	}
	reset(r.upstream)
}

func (r *relay) direction(dst, src stream, n *atomic.Uint64, first func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.p.panicked(v)
			err = errors.New("internal error")
		}
		if err != nil {
			r.abort()
		}
	}()
	if first != nil {
		if err := first(); err != nil {
			return err
		}
	}
	m := mover{dst: dst, src: src, mem: &r.p.mem, moved: n, watch: r.watch}
	if err := m.run(toEnd); err != nil {
		return err
	}
	dst.CloseWrite() // fails where the other side has already gone
	return nil
}
