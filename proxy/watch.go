package proxy

import (
	"math"
	"sync/atomic"
	"time"
)

// watch calls end when nothing has been touched for idle.
type watch struct {
	idle  time.Duration
	end   func()
	timer *time.Timer
	last  atomic.Int64 // UnixNano
	fired atomic.Bool
}

func newWatch(idle time.Duration, end func()) *watch {
	w := &watch{idle: idle, end: end}
	w.touch()
	// Reset after the assignment: check uses the timer.
	w.timer = time.AfterFunc(math.MaxInt64, w.check)
	w.timer.Reset(idle)
	return w
}

func (w *watch) touch() { w.last.Store(time.Now().UnixNano()) }

func (w *watch) stop() { w.timer.Stop() }

func (w *watch) check() {
	if quiet := time.Since(time.Unix(0, w.last.Load())); quiet < w.idle {
		w.timer.Reset(w.idle - quiet)
		return
	}
	w.fired.Store(true)
	w.end()
}
