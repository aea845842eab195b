package loader

import (
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// BenchmarkFlood is what becomes of refusals that come fast and are all different:
// those that no event stands for, and of them those that nobody is told of.
func BenchmarkFlood(b *testing.B) {
	for _, rate := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(rate, "-a-second"), func(b *testing.B) {
			t := &testing.T{} // it fails with a panic
			w := &world{t: t, story: &story{lost: map[event.Operation]uint64{}}, parent: parentGroup(b)}
			l, err := Load(Options{Cgroup: w.parent})
			if err != nil {
				b.Fatal(err)
			}
			w.l = l
			w.read()
			d := makeCorpusDir(b)
			var made, told, lost uint64
			for range b.N {
				m, n, x := flooded(b, w, d, copySelf(b, d, "flooder"), rate, "unique")
				made, told, lost = made+m, told+n, lost+x
			}
			w.stop()
			l.Close()
			b.ReportMetric(float64(made)/float64(b.N), "made")
			b.ReportMetric(100*float64(lost)/float64(made), "%lost")
			b.ReportMetric(float64(int64(made)-int64(told)-int64(lost)), "unaccounted")
			b.ReportMetric(0, "ns/op")
		})
	}
}
