package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// order shows which events came, as sandbox and seconds after noon.
func order(records []Record) string {
	var out []string
	for _, r := range records {
		out = append(out, fmt.Sprintf("%s%g", r.Sandbox.ID, r.Time.Sub(noon).Seconds()))
	}
	return strings.Join(out, " ")
}

func TestQueryMergesAllLogsOldestFirst(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "b", at(1), at(4), at(9))
	writeLog(t, dir, "a", at(0), at(2), at(4), at(5))
	writeLog(t, dir, "c", at(6), at(7))
	writeLog(t, dir, "d", at(20))
	for _, tt := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"all", Filter{}, "a0 b1 a2 a4 b4 a5 c6 c7 b9 d20"},
		{"since", Filter{Since: noon.Add(5 * time.Second)}, "a5 c6 c7 b9 d20"},
		{"until", Filter{Until: noon.Add(2 * time.Second)}, "a0 b1 a2"},
		{"sandbox", Filter{Sandbox: "b"}, "b1 b4 b9"},
		{"the last two", Filter{Limit: 2}, "b9 d20"},
		{"the last two of one", Filter{Limit: 2, Sandbox: "a"}, "a4 a5"},
		{"more than there are", Filter{Limit: 99, Sandbox: "c"}, "c6 c7"},
		{"none", Filter{Limit: -1}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records, errs := collect(Query(dir, tt.filter))
			if got := order(records); got != tt.want || len(errs) > 0 {
				t.Errorf("got %q, want %q; errors %v", got, tt.want, errs)
			}
		})
	}
}

func TestQueryGivesTheStoredBytes(t *testing.T) {
	dir := t.TempDir()
	path := writeLog(t, dir, "a", at(0), typical(), at(2))
	records, _ := collect(Query(dir, Filter{Limit: 3}))
	for i, line := range lines(t, path) {
		if !bytes.Equal(records[i].Line, line) || records[i].File != path || records[i].Number != i+1 {
			t.Errorf("record %d is %s:%d %s", i, records[i].File, records[i].Number, records[i].Line)
		}
	}
}

func TestAClockSetBackDoesNotReorderAFile(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "a", at(10), at(3), at(12))
	writeLog(t, dir, "b", at(11))
	records, _ := collect(Query(dir, Filter{}))
	if got := order(records); got != "a10 a3 b11 a12" {
		t.Errorf("got %q", got)
	}
}

func TestQueryReportsBreaksAndGivesTheRest(t *testing.T) {
	dir := t.TempDir()
	a := writeLog(t, dir, "a", at(0), at(2), at(4))
	b := writeLog(t, dir, "b", at(1), at(3), at(5))
	la := lines(t, a)
	writeLines(t, a, la[0], []byte("garbage"), la[2])
	lb := lines(t, b)
	writeLines(t, b, lb[0], lb[2], []byte(nil)) // one taken out
	f, _ := os.OpenFile(b, os.O_WRONLY|os.O_APPEND, 0)
	_, _ = f.Write([]byte(`{"sch`))
	_ = f.Close()
	if err := os.Mkdir(filepath.Join(dir, "d.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}

	records, errs := collect(Query(dir, Filter{}))
	if got := order(records); got != "a0 b1 a4 b5" {
		t.Errorf("good lines: %q", got)
	}
	want := map[string]error{a + ":2": nil, a + ":3": ErrChain, b + ":2": ErrChain, b + ":3": nil, b + ":4": ErrTruncated}
	for _, err := range errs {
		var le *LineError
		if !errors.As(err, &le) {
			t.Fatalf("error %v", err)
		}
		at := fmt.Sprintf("%s:%d", le.File, le.Line)
		cause, ok := want[at]
		if !ok || cause != nil && !errors.Is(err, cause) {
			t.Errorf("unexpected: %v", err)
		}
		delete(want, at)
	}
	if len(want) > 0 {
		t.Errorf("not reported: %v; reported: %v", want, errs)
	}
}

func TestEachBreakIsReportedOnce(t *testing.T) {
	dir := t.TempDir()
	path := writeLog(t, dir, "a", at(0), at(1), at(2), at(3), at(4), at(5))
	l := lines(t, path)
	writeLines(t, path, l[0], l[2], l[3], l[5])
	records, errs := collect(Query(dir, Filter{}))
	if len(errs) != 2 || len(records) != 4 {
		t.Errorf("two lines were taken out; %d are left; reported: %v", len(records), errs)
	}
}

func writeLines(t *testing.T, path string, l ...[]byte) {
	t.Helper()
	if err := os.WriteFile(path, append(bytes.Join(l, []byte("\n")), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestQueryReadsOnlyRegularLogs(t *testing.T) {
	dir := t.TempDir()
	path := writeLog(t, dir, "a", at(0))
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "link.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.jsonl"), 0o600); err != nil { // opening it would block
		t.Fatal(err)
	}
	records, errs := collect(Query(dir, Filter{}))
	if got := order(records); got != "a0" || len(errs) > 0 {
		t.Errorf("got %q, %v", got, errs)
	}
}

func TestQueryOfAMissingDirectorySaysSo(t *testing.T) {
	_, errs := collect(Query(filepath.Join(t.TempDir(), "none"), Filter{}))
	if len(errs) != 1 || !errors.Is(errs[0], fs.ErrNotExist) {
		t.Errorf("errors %v", errs)
	}
}

func TestALineBeingWrittenIsNoProblem(t *testing.T) {
	dir := t.TempDir()
	w := create1(t, dir)
	if err := w.Append(at(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.file.Write([]byte(`{"schema":1,`)); err != nil {
		t.Fatal(err)
	}
	records, errs := collect(Query(dir, Filter{}))
	if len(records) != 1 || len(errs) > 0 {
		t.Errorf("%d records, %v", len(records), errs)
	}
}

func TestFilesFarOutsideTheAskedTimeAreNotRead(t *testing.T) {
	dir := t.TempDir()
	old := writeLog(t, dir, "old", at(0))
	writeLines(t, old, []byte("garbage")) // reading it would be an error
	setTime := func(age time.Duration) {
		if err := os.Chtimes(old, time.Time{}, noon.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		filter Filter
		age    time.Duration
		read   bool
	}{
		{"changed long before", Filter{Since: noon}, clockSlack + time.Second, false},
		{"changed within the slack", Filter{Since: noon}, clockSlack - time.Second, true},
		{"started long after", Filter{Until: noon.Add(-clockSlack - time.Second)}, 0, false},
		{"started within the slack", Filter{Until: noon.Add(-clockSlack + time.Second)}, 0, true},
	} {
		setTime(tt.age)
		if _, errs := collect(Query(dir, tt.filter)); (len(errs) > 0) != tt.read {
			t.Errorf("%s: errors %v", tt.name, errs)
		}
	}
}

func TestALongHistoryNeedsFewFilesAtOnce(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		writeLog(t, dir, fmt.Sprintf("s%d", i), at(float64(i)), at(float64(i)+0.5))
	}
	most, n := 0, 0
	for _, err := range Query(dir, Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		most = max(most, openLogs(t, dir))
	}
	if n != 400 || most > 2 || openLogs(t, dir) != 0 {
		t.Errorf("%d records, %d files open at once, %d after", n, most, openLogs(t, dir))
	}
}

func TestLeavingAQueryClosesItsFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		writeLog(t, dir, fmt.Sprintf("s%d", i), at(float64(i)), at(100))
	}
	n := 0
	for range Query(dir, Filter{}) {
		if n++; n == 5 {
			if openLogs(t, dir) == 0 {
				t.Error("nothing was open: the test shows nothing")
			}
			break
		}
	}
	if open := openLogs(t, dir); open != 0 {
		t.Errorf("%d files still open", open)
	}
}

// openLogs counts this process's descriptors below dir.
func openLogs(t *testing.T, dir string) (n int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are listed in /proc, which only Linux has")
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, dir+"/") {
			n++
		}
	}
	return n
}

func BenchmarkQueryMillion(b *testing.B) {
	dir := b.TempDir()
	const files, each = 10, 100_000
	for i := range files {
		events := make([]event.Event, 0, each)
		for j := range each {
			e := typical()
			e.Time = noon.Add(time.Duration(i+j*files) * time.Millisecond)
			events = append(events, e)
		}
		writeLog(b, dir, fmt.Sprintf("s%d", i), events...)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for range b.N {
		n, peak := 0, uint64(0)
		for _, err := range Query(dir, Filter{Notable: true}) {
			if err != nil {
				b.Fatal(err)
			}
			if n++; n%50_000 == 0 {
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapInuse)
			}
		}
		if n != files*each {
			b.Fatalf("%d events", n)
		}
		b.ReportMetric(float64(peak-min(peak, before.HeapInuse))/(1<<20), "MiB-heap")
	}
	b.ReportMetric(float64(b.N*files*each)/b.Elapsed().Seconds(), "events/s")
}
