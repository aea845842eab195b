package main

import (
	"testing"
	"time"
)

func TestTimesAreReadAsJournalctlReadsThem(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 11, 22, 15, 30, 0, 0, zone)
	for in, want := range map[string]string{
		"now":                       "2026-11-22T15:30:00+01:00",
		"today":                     "2026-11-22T00:00:00+01:00",
		"yesterday":                 "2026-11-21T00:00:00+01:00",
		"1h":                        "2026-11-22T14:30:00+01:00",
		"-1h30m":                    "2026-11-22T14:00:00+01:00",
		"90m ago":                   "2026-11-22T14:00:00+01:00",
		"2d":                        "2026-11-20T15:30:00+01:00",
		"1w ago":                    "2026-11-15T15:30:00+01:00",
		"2026-11-20":                "2026-11-20T00:00:00+01:00",
		"2026-11-20 10:00":          "2026-11-20T10:00:00+01:00",
		"2026-11-20 10:00:05":       "2026-11-20T10:00:05+01:00",
		"2026-11-20T10:00:05":       "2026-11-20T10:00:05+01:00",
		"2026-11-20T10:00:05Z":      "2026-11-20T11:00:05+01:00",
		"2026-11-20T10:00:05-05:00": "2026-11-20T16:00:05+01:00",
		"10:15":                     "2026-11-22T10:15:00+01:00",
		"10:15:20":                  "2026-11-22T10:15:20+01:00",
	} {
		got, err := parseWhen(in, now)
		if err != nil || got.In(zone).Format(time.RFC3339) != want {
			t.Errorf("%q is %v (%v), want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", " ", "d", "ago", "--1h", "1.5d", "99999999w", "tomorrow", "2026-13-01", "25:00", "1h1d", "10"} {
		if got, err := parseWhen(in, now); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
}
