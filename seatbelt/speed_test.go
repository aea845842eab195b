package seatbelt

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestEveryStyleIsReadFastEnough is a tenth of what is asked, for machines that
// are busy; the benchmarks measure it.
func TestEveryStyleIsReadFastEnough(t *testing.T) {
	const floor, n = 50_000, 2000
	for name, line := range map[string]func(i int) string{
		"ndjson":  func(i int) string { return nth(logEntry(0, "/kernel", report+"\nTAG"), i) },
		"compact": func(i int) string { return nth(compactLine, i) },
		"syslog":  func(i int) string { return nth(syslogLine, i) },
		"default": func(i int) string { return nth(defaultLine, i) },
	} {
		var in strings.Builder
		for i := range n {
			in.WriteString(line(i) + "\n")
		}
		before := cpuTime(t)
		got, counts := scanAll(t, strings.NewReader(in.String()))
		if rate := float64(n) / (cpuTime(t) - before).Seconds(); len(got) != n || counts != (Counts{}) || rate < floor {
			t.Errorf("%s: %d records, %v, %.0f a second", name, len(got), counts, rate)
		}
	}
}

func benchmarkLines(b *testing.B, line func(i int) string) {
	const n = 1000
	var lines []string
	for i := range n {
		lines = append(lines, line(i))
	}
	in := []byte(strings.Join(lines, "\n"))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	records, before := 0, cpuTime(b)
	for b.Loop() {
		s := NewScanner(bytes.NewReader(in))
		for range n {
			r, err := s.Next()
			if err != nil {
				b.Fatal(err)
			}
			if v, o := ParseViolation(r.Text); o != Kept || v.PID < 20000 {
				b.Fatal(o, v)
			}
			records++
		}
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(records)/(cpuTime(b)-before).Seconds(), "records/cpu-s")
}

// nth is a line in which what differs from record to record does.
func nth(line string, i int) string {
	return strings.NewReplacer("12345678901234", strconv.Itoa(12345678901234+7777*i), "114537", strconv.Itoa(114537+i%40),
		"987654321", strconv.Itoa(987654321+3333*i), "806671", strconv.Itoa(100000+i), "22304", strconv.Itoa(22304+i/3),
		"/.env", fmt.Sprintf("/%d/.env", i)).Replace(line)
}

func BenchmarkScanNDJSON(b *testing.B) {
	benchmarkLines(b, func(i int) string { return nth(logEntry(0, "/kernel", report+"\nTAG"), i) })
}

// BenchmarkScanMixed has a record of another program between every two.
func BenchmarkScanMixed(b *testing.B) {
	other := strings.NewReplacer(`"formatString":"%s\n"`, `"formatString":"a longer format: %{public}s"`, "114537", "1",
		`"messageType":"Error"`, `"messageType":"Default"`).Replace(logEntry(4242, "/usr/bin/other", "something else"))
	benchmarkLines(b, func(i int) string { return nth(logEntry(0, "/kernel", report+"\nTAG"), i) + "\n" + nth(other, i) })
}

// BenchmarkScanShort reads a record with the members that were published of one.
func BenchmarkScanShort(b *testing.B) {
	line := readRecords(b)["A16"]
	benchmarkLines(b, func(i int) string { return nth(line, i) })
}

// BenchmarkScanNothingFamiliar has as many shapes of lines as there are lines.
func BenchmarkScanNothingFamiliar(b *testing.B) {
	benchmarkLines(b, func(i int) string {
		return strings.Replace(nth(logEntry(0, "/kernel", report+"\nTAG"), i), `"traceID"`, fmt.Sprintf(`"trace%d"`, i), 1)
	})
}

const (
	compactLine = "2026-09-18 11:11:11.806 E  kernel[0:1bf69] " + violation + report
	syslogLine  = "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: (Sandbox) " + report
	defaultLine = "2026-09-18 11:11:11.806671-0400 0xc912c6   Error       0x0                  0      0    kernel: (Sandbox) " + report
)

func BenchmarkScanCompact(b *testing.B) {
	benchmarkLines(b, func(i int) string { return nth(compactLine, i) })
}

func BenchmarkScanSyslog(b *testing.B) {
	benchmarkLines(b, func(i int) string { return nth(syslogLine, i) })
}

func BenchmarkScanDefault(b *testing.B) {
	benchmarkLines(b, func(i int) string { return nth(defaultLine, i) })
}
