package seatbelt

import (
	"testing"
	"time"
)

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-09-18 11:11:11.806671-0400", "2024-02-29 23:59:59.999999+1400", "2023-02-29 00:00:00.000000+0000",
		"2026-13-01 00:00:00.000000+0000", "2026-00-10 00:00:00.000000+0000", "2026-09-18 24:00:00.000000+0000", "2026-09-18T11:11:11.806671-0400"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := time.Parse("2006-01-02 15:04:05.000000-0700", s)
		got, ok := parseLongTime(s)
		if ok && s[17:19] == "60" { // a leap second, which time.Parse has not got
			return
		}
		if ok && err != nil {
			t.Fatalf("%q is taken, time.Parse: %v", s, err)
		}
		if len(s) == longTimeLen && (s[27:29] == "24" || s[29:] == "60") { // a zone that none is, which time.Parse takes
			return
		}
		if !ok && err == nil && want.Format("2006-01-02 15:04:05.000000-0700") == s {
			t.Fatalf("%q is refused", s)
		}
		if ok && !got.Equal(want) {
			t.Fatalf("%q: %v, want %v", s, got, want)
		}
	})
}
