package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	attacks["swaplink"] = func(a []string) error { // OWN TARGET FOR
		one, two := a[0]+".one", a[0]+".two"
		if err := os.Symlink(a[0], one); err != nil {
			return err
		}
		if err := os.Symlink(a[1], two); err != nil {
			return err
		}
		return writeWhileSwapped(one, two, one, duration(a[2]))
	}
	attacks["swapdir"] = func(a []string) error { // DIR TARGET-DIR FOR: a file of TARGET-DIR
		one, two := filepath.Join(a[0], "swapped.one"), filepath.Join(a[0], "swapped.two")
		if err := os.Mkdir(one, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(one+"/file", nil, 0o644); err != nil {
			return err
		}
		if err := os.Symlink(a[1], two); err != nil {
			return err
		}
		return writeWhileSwapped(one, two, one+"/file", duration(a[2]))
	}
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

// raceFor is how long a race is run.
func raceFor() time.Duration {
	if testing.Short() {
		return 200 * time.Millisecond
	}
	return 2 * time.Second
}

// writeWhileSwapped opens and writes a path while another thread exchanges two
// names on the way. It tells how often it was refused, and wants to have got
// through, too: else there was no race.
func writeWhileSwapped(one, two, path string, long time.Duration) error {
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_EXCHANGE)
		}
	}()
	results := map[string]int{}
	for end := time.Now().Add(long); time.Now().Before(end) || results["ok"] == 0 && time.Now().Before(end.Add(slow/3)); {
		results[errnoName(writeTo(path, unix.O_WRONLY))]++
	}
	stop.Store(true)
	<-done
	if results["ok"] == 0 || results["EROFS"] == 0 || len(results) != 2 {
		return fmt.Errorf("no race took place: %v", results)
	}
	return fmt.Errorf("EROFS %d", results["EROFS"])
}
