package record

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEventsSurviveThePipe(t *testing.T) {
	in := []Event{
		{Schema: Schema, Seq: 0, Time: time.Date(2025, 1, 2, 3, 4, 5, 6, time.UTC), Kind: KindScenarioStart, Scenario: "a/b", File: "scenarios/a/b.txtar"},
		{Seq: 1, T: 1.5, Kind: KindOutput, Step: 3, Stream: "stdout", Text: "\x1b[2J<&> \"quoted\"\nnext \u00e9\u4e16"},
		{Seq: 2, T: 2, Kind: KindMarker, Node: "A", Unit: "dsoftbusd", Text: "dsoftbusd: ready", Guest: 0.25},
		{Seq: 3, T: 3, Kind: KindScenarioEnd, Result: Failed, Failure: &Failure{Reason: KernelPanic, Node: "B", Tail: map[string][]string{"A": {"x"}, "B": {}}}},
	}
	var b bytes.Buffer
	for _, e := range in {
		if err := WriteEvent(&b, e); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(b.String(), "\n"); n != len(in) {
		t.Errorf("%d lines for %d events:\n%s", n, len(in), b.String())
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("an escape character was written as it is")
	}
	if !strings.Contains(b.String(), "<&>") {
		t.Error("characters that are special in HTML are not readable")
	}
	r := NewReader(iotest.OneByteReader(&b))
	var out []Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
}

type oneWrite struct{ writes int }

func (w *oneWrite) Write(p []byte) (int, error) {
	w.writes++
	return len(p), nil
}

func TestWriteEventWritesOnce(t *testing.T) {
	var w oneWrite
	if err := WriteEvent(&w, Event{Kind: KindOutput, Text: strings.Repeat("\x00", 2*MaxText)}); err != nil {
		t.Fatal(err)
	}
	if w.writes != 1 {
		t.Errorf("%d writes", w.writes)
	}
}

func TestReaderErrors(t *testing.T) {
	first := `{"schema":1,"seq":0,"kind":"run-start"}` + "\n"
	tests := []struct {
		name, in string
		events   int
		want     string
		is       error
	}{
		{"empty", "", 0, "", io.EOF},
		{"whole", first, 1, "", io.EOF},
		{"cut", first + `{"seq":1,"ki`, 1, "", ErrTruncated},
		{"only the newline is missing", strings.TrimSpace(first), 0, "", ErrTruncated},
		{"garbage in the middle", first + "hello\n" + first, 1, "line 2: not an event", nil},
		{"foreign schema", `{"schema":7,"seq":0,"kind":"run-start"}` + "\n", 0, "schema 7, but this program reads schema 1", nil},
		{"no schema", `{"seq":0,"kind":"run-start"}` + "\n", 0, "names no schema", nil},
		{"schema changes", first + `{"schema":2,"seq":1}` + "\n", 1, "line 2: schema 2", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(tt.in))
			n := 0
			var err error
			for {
				if _, err = r.Next(); err != nil {
					break
				}
				n++
			}
			if n != tt.events {
				t.Errorf("%d events, want %d", n, tt.events)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v, want %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not contain %q", err, tt.want)
			}
		})
	}
}

func TestReaderRefusesEndlessLine(t *testing.T) {
	r := NewReader(endless{})
	r.max = 1 << 20
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "line 1: longer than") {
		t.Errorf("error %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestBounded(t *testing.T) {
	long := strings.Repeat("x", MaxText-1) + "\u00e9" + strings.Repeat("y", 10)
	tail := make([]string, MaxTailLines+1)
	tail[0] = "first"
	tail[MaxTailLines] = strings.Repeat("z", MaxTailLine+1)
	f := &Failure{Message: long, Awaited: long, Text: long, Tail: map[string][]string{"A": tail}}
	in := Event{Text: long, Error: long, Failure: f}
	out := bounded(in)

	if want := MaxText - 1; len(out.Text) != want || out.Cut != 12 {
		t.Errorf("text of %d bytes, %d cut; want %d and 12 (a character is not split)", len(out.Text), out.Cut, want)
	}
	for name, s := range map[string]string{"error": out.Error, "message": out.Failure.Message, "awaited": out.Failure.Awaited, "failure text": out.Failure.Text} {
		if len(s) > MaxText {
			t.Errorf("%s has %d bytes", name, len(s))
		}
	}
	got := out.Failure.Tail["A"]
	if len(got) != MaxTailLines || got[0] == "first" || len(got[MaxTailLines-1]) != MaxTailLine {
		t.Errorf("tail of %d lines, first %q, last of %d bytes", len(got), got[0], len(got[len(got)-1]))
	}
	if f.Message != long || len(f.Tail["A"]) != MaxTailLines+1 || len(f.Tail["A"][MaxTailLines]) != MaxTailLine+1 {
		t.Error("the caller's failure was changed")
	}
	if again := bounded(out); again.Cut != out.Cut {
		t.Errorf("cut grew from %d to %d", out.Cut, again.Cut)
	}
}

func TestFailureError(t *testing.T) {
	tests := []struct {
		f    Failure
		want string
	}{
		{Failure{Reason: Internal}, "the rig itself went wrong (internal)"},
		{Failure{Reason: ExecStatus, File: "a.txtar", Line: 3, Text: "exec A ls", Message: "exit status 2"}, "a.txtar:3: exec A ls: exit status 2 (exec-status)"},
		{Failure{Reason: Invalid, File: "a.txtar", Message: "empty"}, "a.txtar: empty (invalid)"},
	}
	for _, tt := range tests {
		var err error = &tt.f
		if err.Error() != tt.want {
			t.Errorf("got  %s\nwant %s", err, tt.want)
		}
	}
	if f := (&Failure{Reason: Internal, Next: "own"}); f.NextStep() != "own" {
		t.Error("the failure's own next step is not used")
	}
	if f := (&Failure{Reason: Internal}); f.NextStep() != Internal.Info().Next {
		t.Error("the reason's next step is not used")
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"schema":1,"seq":0,"kind":"run-start","time":"2025-01-02T03:04:05Z","host":{"qemu":"7.2"}}` + "\n" + `{"seq":1}`))
	f.Add([]byte(`{"schema":1,"kind":"scenario-end","failure":{"tail":{"A":["x"]}}}` + "\n\n"))
	f.Add([]byte("{\"schema\":1}\n[]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		b := newBuilder("fuzz")
		for {
			e, err := r.Next()
			if err != nil {
				break
			}
			b.add(e)
			var again bytes.Buffer
			if err := WriteEvent(&again, e); err != nil {
				t.Fatalf("an event that was read cannot be written: %v", err)
			}
		}
		b.summary()
	})
}
