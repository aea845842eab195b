package audit

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sallyport/sallyport/internal/event"
)

const good = `{"schema":1,"seq":1,"prev":"","time":"2026-11-22T12:00:00Z","count":1}`

func TestBadLinesAreNamedAndReadingGoesOn(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"empty", ``, "empty line"},
		{"not JSON", `deny`, "invalid character"},
		{"half an object", `{"schema":1,`, "unexpected EOF"},
		{"an array", `[1]`, "cannot unmarshal"},
		{"null", `null`, "no schema"},
		{"two events", good + good, "bytes after the event"},
		{"not UTF-8", strings.Replace(good, `"prev":""`, "\"prev\":\"\xff\"", 1), "not UTF-8"},
		{"unknown field", strings.Replace(good, `"seq"`, `"more":1,"seq"`, 1), "unknown field"},
		{"unknown verdict", strings.Replace(good, `"seq"`, `"verdict":"maybe","seq"`, 1), "unknown value"},
		{"number for a verdict", strings.Replace(good, `"seq"`, `"verdict":1,"seq"`, 1), "cannot unmarshal"},
		{"negative seq", strings.Replace(good, `"seq":1`, `"seq":-1`, 1), "cannot unmarshal"},
		{"port out of range", strings.Replace(good, `"seq"`, `"object":{"port":65536},"seq"`, 1), "cannot unmarshal"},
		{"lone backslash in text", strings.Replace(good, `"seq"`, `"object":{"path":"\\q"},"seq"`, 1), "lone backslash"},
		{"no schema", strings.Replace(good, `"schema":1,`, ``, 1), "no schema"},
		{"no seq", strings.Replace(good, `"seq":1,`, ``, 1), "no seq"},
		{"no time", strings.Replace(good, `"time":"2026-11-22T12:00:00Z",`, ``, 1), "no time"},
		{"no count", strings.Replace(good, `,"count":1`, ``, 1), "no count"},
		{"too long", `"` + strings.Repeat("x", maxLine) + `"`, "longer than"},
		{"too long by one", strings.Repeat(" ", maxLine-len(good)+1) + good, "longer than"},
		{"later schema, wrong type", `{"schema":2,"seq":"x","time":"2026-11-22T12:00:00Z","count":1}`, "cannot unmarshal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := good + "\n" + tt.line + "\n" + good + "\n"
			events, errs := collect(Read(strings.NewReader(in), "f.jsonl"))
			if len(events) != 2 || len(errs) != 1 {
				t.Fatalf("%d events, errors %v", len(events), errs)
			}
			var le *LineError
			if !errors.As(errs[0], &le) || le.Line != 2 || le.File != "f.jsonl" {
				t.Errorf("error is %v, want one about f.jsonl:2", errs[0])
			}
			if !strings.HasPrefix(errs[0].Error(), "f.jsonl:2: ") || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("error is %v, want %q", errs[0], tt.want)
			}
		})
	}
}

func TestWhatMayBeReadIsRead(t *testing.T) {
	for name, line := range map[string]string{
		"the least":            good,
		"the longest":          strings.Repeat(" ", maxLine-len(good)) + good,
		"a later schema":       `{"schema":2,"seq":1,"time":"2026-11-22T12:00:00Z","count":1,"more":{"a":1}}`,
		"space around":         " " + good + "\r",
		"bytes that were kept": strings.Replace(good, `"seq"`, `"object":{"path":"\\xff"},"seq"`, 1),
	} {
		events, errs := collect(Read(strings.NewReader(line+"\n"), "f"))
		if len(events) != 1 || len(errs) > 0 || events[0].Seq != 1 {
			t.Errorf("%s: %v, %v", name, events, errs)
		}
	}
}

func TestATruncatedLastLineIsItsOwnError(t *testing.T) {
	for _, tail := range []string{"{", good, "\xff", strings.Repeat("x", 3*maxLine)} {
		events, errs := collect(Read(strings.NewReader(good+"\n"+tail), "f"))
		if len(events) != 1 || len(errs) != 1 || !errors.Is(errs[0], ErrTruncated) || !strings.HasPrefix(errs[0].Error(), "f:2: ") {
			t.Errorf("tail of %d bytes: %d events, %v", len(tail), len(events), errs)
		}
	}
}

func TestAReadErrorEndsReading(t *testing.T) {
	broken := errors.New("broken disk")
	r := io.MultiReader(strings.NewReader(good+"\n{"), iotest.ErrReader(broken))
	events, errs := collect(Read(r, "f"))
	if len(events) != 1 || len(errs) != 1 || !errors.Is(errs[0], broken) {
		t.Errorf("%d events, errors %v", len(events), errs)
	}
	if err := Verify(iotest.ErrReader(broken), "f"); !errors.Is(err, broken) {
		t.Errorf("Verify: %v", err)
	}
}

func TestVerifyNamesTheFirstLineThatWasTamperedWith(t *testing.T) {
	whole := lines(t, writeLog(t, t.TempDir(), "box", at(0), at(1), at(2), at(3)))
	for _, tt := range []struct {
		name   string
		change func([][]byte) [][]byte
		line   int // of the error; 0: none
		cause  error
	}{
		{"nothing", func(l [][]byte) [][]byte { return l }, 0, nil},
		{"a line changed", func(l [][]byte) [][]byte {
			l[1] = bytes.Replace(l[1], []byte("evil"), []byte("good"), 1)
			return l
		}, 3, ErrChain},
		{"a line taken out", func(l [][]byte) [][]byte { return slices.Delete(l, 1, 2) }, 2, ErrChain},
		{"the first taken out", func(l [][]byte) [][]byte { return l[1:] }, 1, ErrChain},
		{"a line doubled", func(l [][]byte) [][]byte { return slices.Insert(l, 2, l[1]) }, 3, ErrChain},
		{"lines swapped", func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l }, 2, ErrChain},
		{"prev of the first", func(l [][]byte) [][]byte {
			l[0] = bytes.Replace(l[0], []byte(`"prev":"00`), []byte(`"prev":"01`), 1)
			return l
		}, 1, ErrChain},
		{"a line renumbered", func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte(`"seq":4`), []byte(`"seq":5`), 1)
			return l
		}, 4, ErrChain},
		{"a line made unreadable", func(l [][]byte) [][]byte { l[2] = []byte("{}"); return l }, 3, nil},
		{"the end cut off, which cannot be seen", func(l [][]byte) [][]byte { return l[:2] }, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := bytes.Join(append(tt.change(slices.Clone(whole)), nil), []byte("\n"))
			err := Verify(bytes.NewReader(in), "f")
			var le *LineError
			switch {
			case tt.line == 0 && err == nil:
			case !errors.As(err, &le) || le.Line != tt.line || tt.cause != nil && !errors.Is(err, tt.cause):
				t.Errorf("error is %v, want line %d, %v", err, tt.line, tt.cause)
			}
		})
	}
	if err := Verify(bytes.NewReader(whole[0]), "f"); !errors.Is(err, ErrTruncated) {
		t.Errorf("a truncated line: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(good + "\n"))
	f.Add([]byte(good))
	f.Add([]byte("\n\n{}\nnull\n" + good + "\n" + good + good))
	f.Add([]byte(`{"schema":2,"seq":1,"time":"2026-11-22T12:00:00Z","count":1,"x":0}` + "\n"))
	f.Add(bytes.Join(append(lines(f, writeLog(f, f.TempDir(), "box", at(0), typical())), nil), []byte("\n")))
	f.Fuzz(func(t *testing.T, in []byte) {
		events, errs := collect(Read(bytes.NewReader(in), "f"))
		want := bytes.Count(in, []byte("\n"))
		if len(in) > 0 && in[len(in)-1] != '\n' {
			want++
		}
		if len(events)+len(errs) != want {
			t.Fatalf("%d lines gave %d events and %d errors", want, len(events), len(errs))
		}
		_ = Verify(bytes.NewReader(in), "f")
		for _, e := range events {
			checkRewritten(t, e)
		}
	})
}

// checkRewritten writes an event that was read and reads it again: a record
// must survive being copied, and must never break its line when shown.
func checkRewritten(t *testing.T, e event.Event) {
	t.Helper()
	var enc encoder
	line, err := enc.encode(e)
	if err != nil {
		t.Fatalf("encode %+v: %v", e, err)
	}
	line = bytes.Clone(line)
	back, err := decode(line[:len(line)-1])
	if err != nil {
		t.Fatalf("decode %s: %v", line, err)
	}
	again, err := enc.encode(back)
	if err != nil || !bytes.Equal(again, line) {
		t.Fatalf("rewritten as %s, want %s (%v)", again, line, err)
	}
	if s := Format(e, nil); strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) {
		t.Fatalf("shown as %q", s)
	}
}
