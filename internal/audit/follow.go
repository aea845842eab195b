package audit

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"time"
)

// Follow looks for more this often. It polls, as inotify(7) sees nothing that
// another machine writes to a shared home, has a limit per user, and differs
// from what macOS has; a look costs two system calls for each live file.
const followEvery = 200 * time.Millisecond

// listAfter is how much later than the last change of a directory it must have
// been listed for an unchanged time to mean that nothing was added: coarse
// clocks give two changes one time.
const listAfter = 2 * time.Second

// Follow gives what Query gives, and then each record that is appended, in
// files there are and files to come, until ctx is done. A directory that does
// not exist yet is waited for.
func Follow(ctx context.Context, dir string, f Filter) iter.Seq2[Record, error] {
	return FollowAll(ctx, f, DirSource(dir))
}

// FollowAll is Follow over several sources.
func FollowAll(ctx context.Context, f Filter, from ...Source) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s := newStream(f, from)
		defer s.close()
		give := func(r Record, err error) bool { return ctx.Err() == nil && yield(r, err) }
		if !s.again(give) || !s.history(give) {
			return
		}
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !s.again(give) || !s.round(give) {
				return
			}
		}
	}
}

// again starts a round: the files that may have grown, and those that are new
// if the directory may have changed.
func (s *stream) again(yield func(Record, error) bool) bool {
	for name, c := range s.idle {
		delete(s.idle, name)
		s.heap = append(s.heap, c)
	}
	for _, p := range s.places {
		err := s.list(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !yield(Record{}, err) {
			return false
		}
	}
	return true
}
