package seatbelt

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// The text styles of log(1). Each record begins with a line that starts with
// the time; lines that do not are the rest of its message. Nothing in them is
// escaped, so whoever can put a line break into a message can make it look like
// two records: they are for reading, ndjson is for relying on.
const violation = "[com.apple.sandbox.reporting:violation] "

// header is the first line of a record.
type header struct {
	time     time.Time
	reporter Reporter
	text     string
}

// parseHeader reads the first line of a record. ok is false where the line
// starts no record.
func parseHeader(line []byte, zone *time.Location) (h header, ok bool) {
	if len(line) > longTimeLen && line[longTimeLen] == ' ' {
		if h.time, ok = parseLongTime(line[:longTimeLen]); ok {
			rest := bytes.TrimLeft(line[longTimeLen:], " ")
			style := syslogStyle
			if bytes.HasPrefix(rest, []byte("0x")) {
				style = defaultStyle
			}
			h.reporter, h.text = style(string(rest))
			return h, true
		}
	}
	if len(line) > shortTimeLen && line[shortTimeLen] == ' ' {
		if h.time, ok = parseShortTime(line[:shortTimeLen], zone); ok {
			h.reporter, h.text = compactStyle(string(line[shortTimeLen+1:]))
			return h, true
		}
	}
	return h, false
}

// syslogStyle reads HOST NAME[PID]: (LIBRARY) [SUBSYSTEM:CATEGORY] TEXT.
func syslogStyle(s string) (Reporter, string) {
	_, s, _ = strings.Cut(s, " ")
	if rest, ok := strings.CutPrefix(s, "kernel[0]: "); ok {
		return Kernel, trimSender(rest)
	}
	return sandboxdRecord(s, "]: ")
}

// compactStyle reads TYPE NAME[PID:THREAD] TEXT.
func compactStyle(s string) (Reporter, string) {
	_, s, _ = strings.Cut(s, " ")
	s = strings.TrimLeft(s, " ")
	if rest, ok := strings.CutPrefix(s, "kernel[0:"); ok {
		thread, text, ok := strings.Cut(rest, "] ")
		if _, err := strconv.ParseUint(thread, 16, 64); err == nil && ok {
			return Kernel, trimSender(text)
		}
		return SomeProcess, ""
	}
	return sandboxdRecord(s, "] ")
}

// sandboxdRecord reads sandboxd[PID followed by end.
func sandboxdRecord(s, end string) (Reporter, string) {
	rest, ok := strings.CutPrefix(s, "sandboxd[")
	if !ok {
		return SomeProcess, ""
	}
	id, text, ok := strings.Cut(rest, end)
	pid, _, _ := strings.Cut(id, ":")
	if n, err := strconv.ParseUint(pid, 10, 31); err != nil || n == 0 || !ok {
		return SomeProcess, ""
	}
	return Sandboxd, trimSender(text)
}

// defaultStyle reads THREAD TYPE ACTIVITY PID TTL NAME: (LIBRARY) TEXT.
func defaultStyle(s string) (Reporter, string) {
	var column [5]string
	for i := range column {
		column[i], s, _ = strings.Cut(s, " ")
		s = strings.TrimLeft(s, " ")
	}
	pid, err := strconv.ParseUint(column[3], 10, 31)
	if err != nil || !strings.HasPrefix(column[2], "0x") {
		return SomeProcess, ""
	}
	if text, ok := strings.CutPrefix(s, "kernel: "); ok && pid == 0 {
		return Kernel, trimSender(text)
	}
	if text, ok := strings.CutPrefix(s, "sandboxd: "); ok && pid > 0 {
		return Sandboxd, trimSender(text)
	}
	return SomeProcess, ""
}

// trimSender takes the library and the subsystem off.
func trimSender(s string) string {
	return strings.TrimPrefix(strings.TrimPrefix(s, "(Sandbox) "), violation)
}

// banners are the beginnings of what log(1) prints besides records.
var banners = []string{"Filtering the log data using ", "Timestamp  ", "Skipping ", "Log      - ", "Activity - ",
	"----------", "==========", "log: "}

func isBanner(line []byte) bool {
	for _, b := range banners {
		if bytes.HasPrefix(line, []byte(b)) {
			return true
		}
	}
	return false
}
