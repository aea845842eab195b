package seatbelt

import "time"

// Times as log(1) prints them: "2026-09-18 11:11:11.806671-0400", and in the
// compact style "2026-09-18 11:11:11.806".
const (
	longTimeLen  = len("2026-09-18 11:11:11.806671-0400")
	shortTimeLen = len("2026-09-18 11:11:11.806")
)

// parseLongTime gives a time with a zone, in UTC. time.Parse takes a fifth of
// all the time a record takes.
func parseLongTime[T ~string | ~[]byte](s T) (time.Time, bool) {
	if len(s) != longTimeLen {
		return time.Time{}, false
	}
	t, ok := civil(s, 6, time.UTC)
	hours, ok1 := twoDigits(s, 27)
	minutes, ok2 := twoDigits(s, 29)
	if !ok || !ok1 || !ok2 || hours > 23 || minutes > 59 || s[26] != '-' && s[26] != '+' {
		return time.Time{}, false
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[26] == '+' {
		offset = -offset
	}
	return t.Add(offset), true
}

// parseShortTime gives a time without a zone.
func parseShortTime(s []byte, zone *time.Location) (time.Time, bool) {
	if len(s) != shortTimeLen {
		return time.Time{}, false
	}
	return civil(s, 3, zone)
}

// civil reads date, time and so many decimals of a second.
func civil[T ~string | ~[]byte](s T, decimals int, zone *time.Location) (time.Time, bool) {
	var part [7]int // century, year, month, day, hour, minute, second
	for i, at := range [...]int{0, 2, 5, 8, 11, 14, 17} {
		n, ok := twoDigits(s, at)
		if !ok {
			return time.Time{}, false
		}
		part[i] = n
	}
	nanos := 0
	for i := range 9 {
		digit := 0
		if i < decimals {
			if digit = int(s[20+i]) - '0'; digit < 0 || digit > 9 {
				return time.Time{}, false
			}
		}
		nanos = 10*nanos + digit
	}
	if s[4] != '-' || s[7] != '-' || s[10] != ' ' || s[13] != ':' || s[16] != ':' || s[19] != '.' ||
		part[4] > 23 || part[5] > 59 || part[6] > 60 {
		return time.Time{}, false
	}
	month, day := time.Month(part[2]), part[3]
	t := time.Date(100*part[0]+part[1], month, day, part[4], part[5], part[6], nanos, zone)
	// What the calendar has not got, Date turns into another day.
	return t, month >= 1 && month <= 12 && day >= 1 && (day <= 28 || day <= daysIn(month, t.Year()))
}

func daysIn(m time.Month, year int) int { return time.Date(year, m+1, 0, 0, 0, 0, 0, time.UTC).Day() }

func twoDigits[T ~string | ~[]byte](s T, at int) (int, bool) {
	a, b := s[at]-'0', s[at+1]-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}
