package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func has(text string) func(Line) bool {
	return func(l Line) bool { return strings.Contains(l.Text, text) }
}

func TestWaitSeesLinesBeforeAndAfter(t *testing.T) {
	l := NewLog()
	l.Append(Line{Text: "one"})
	got, err := l.Wait(t.Context(), 0, has("one"))
	if err != nil || got.Seq != 0 {
		t.Fatalf("line already there: %+v, %v", got, err)
	}
	found := make(chan Line)
	go func() {
		line, _ := l.Wait(t.Context(), 1, has("two"))
		found <- line
	}()
	l.Append(Line{Text: "one again"})
	l.Append(Line{Text: "two"})
	if line := <-found; line.Seq != 2 || line.Text != "two" {
		t.Fatalf("got %+v", line)
	}
}

func TestWaitStartsAtFrom(t *testing.T) {
	l := NewLog()
	l.Append(Line{Text: "ready"})
	l.Append(Line{Text: "ready"})
	if line, err := l.Wait(t.Context(), 1, has("ready")); err != nil || line.Seq != 1 {
		t.Fatalf("got %+v, %v", line, err)
	}
}

func TestWaitEndsWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("machine is gone")
		l := NewLog()
		l.Append(Line{Text: "last words"})
		errs := make(chan error)
		go func() {
			_, err := l.Wait(t.Context(), 0, has("never"))
			errs <- err
		}()
		synctest.Wait()
		l.End(gone)
		l.End(errors.New("later cause"))
		if err := <-errs; !errors.Is(err, gone) {
			t.Fatalf("waiter got %v", err)
		}
		if line, err := l.Wait(t.Context(), 0, has("last words")); err != nil {
			t.Fatalf("a line from before the end: %+v, %v", line, err)
		}
		l.Resume()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("waited 1s"))
		defer cancel()
		if _, err := l.Wait(ctx, 0, has("never")); err == nil || err.Error() != "waited 1s" {
			t.Fatalf("deadline: %v", err)
		}
	})
}

// Who follows a node sees what it prints after it was started again.
func TestNextWaitsBeyondTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		l.Append(Line{Text: "last words"})
		l.End(errors.New("machine is gone"))
		if line, err := l.Next(t.Context(), 0); err != nil || line.Text != "last words" {
			t.Fatalf("a line from before the end: %+v, %v", line, err)
		}
		lines := make(chan Line, 1)
		go func() {
			line, _ := l.Next(t.Context(), 1)
			lines <- line
		}()
		synctest.Wait()
		l.Resume()
		synctest.Wait()
		select {
		case line := <-lines:
			t.Fatalf("got %+v, of nothing", line)
		default:
		}
		l.Append(Line{Text: "again"})
		if line := <-lines; line.Seq != 1 || line.Text != "again" {
			t.Fatalf("got %+v", line)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("waited 1s"))
		defer cancel()
		if _, err := l.Next(ctx, 2); err == nil || err.Error() != "waited 1s" {
			t.Fatalf("deadline: %v", err)
		}
	})
}

func TestManyWaitersAndWriters(t *testing.T) {
	l := NewLog()
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := l.Wait(t.Context(), 0, func(l Line) bool { return l.Text == fmt.Sprint(i) }); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { l.Append(Line{Text: fmt.Sprint(i)}) })
	}
	wg.Wait()
	for i, line := range l.Lines(0, l.Len()) {
		if line.Seq != i {
			t.Fatalf("line %d has seq %d", i, line.Seq)
		}
	}
}

func TestLogForgetsOldLinesWithinItsBound(t *testing.T) {
	l := NewLog()
	l.maxBytes = 10 * (lineOverhead + 1)
	for range 25 {
		l.Append(Line{Text: "x"})
	}
	if lines := l.Lines(0, l.Len()); len(lines) != 10 || lines[0].Seq != 15 || l.Len() != 25 {
		t.Fatalf("%d lines from %d, next %d", len(lines), lines[0].Seq, l.Len())
	}
	if tail := l.Tail(2); len(tail) != 2 || tail[1].Seq != 24 {
		t.Fatalf("tail %+v", tail)
	}
	if line, err := l.Wait(t.Context(), 0, has("x")); err != nil || line.Seq != 15 {
		t.Fatalf("wait from a forgotten line: %+v, %v", line, err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, ümlaut, 日本":  "plain text, ümlaut, 日本",
		"a\tb":                    "a\tb",
		"\x1b[31mred\x1b[0m":      `\x1b[31mred\x1b[0m`,
		"bell\a\x7f":              `bell\x07\x7f`,
		"\xff\xfe":                `\xff\xfe`,
		"left\u202eright":         `left\u202eright`,
		"zero\u200bwidth":         `zero\u200bwidth`,
		"\u009b31m":               `\u009b31m`,
		"line\nbreak\r":           `line\x0abreak\x0d`,
		"\U000e0001tag":           `\U000e0001tag`,
		"replacement \ufffd char": "replacement \ufffd char",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	tail := Tail{Max: 8}
	for _, s := range []string{"0123456789", "ab", "\n"} {
		if n, err := tail.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("write of %q: %d, %v", s, n, err)
		}
	}
	if got := tail.String(); got != "56789ab" {
		t.Fatalf("kept %q", got)
	}
}

// A wait that ends without a line says what it has not seen.
func TestWaitSaysWhatItHasNotSeen(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(Line) bool { return false }
	lacks := func(l *Log, from int) string {
		t.Helper()
		_, err := l.Wait(ctx, from, never)
		var lacking *IncompleteError
		if errors.As(err, &lacking) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the cause is lost: %v", err)
			}
			return lacking.Why
		}
		return ""
	}
	l := NewLog()
	l.maxBytes = 10 * (lineOverhead + 1)
	for range 10 {
		l.Append(Line{Text: "x"})
	}
	if why := lacks(l, 0); why != "" {
		t.Errorf("all is there: %s", why)
	}
	l.Append(Line{Text: "x"})
	if why := lacks(l, 0); !strings.HasPrefix(why, "1 lines were not looked at") {
		t.Errorf("one is forgotten: %q", why)
	}
	if why := lacks(l, 1); why != "" {
		t.Errorf("one that was not asked for is forgotten: %s", why)
	}
	l.Lose("entries 3 to 4 never arrived")
	if why := lacks(l, 11); why != "entries 3 to 4 never arrived" {
		t.Errorf("lost behind the last line: %q", why)
	}
	l.Append(Line{Text: "x"})
	if why := lacks(l, 12); why != "" {
		t.Errorf("lost before: %s", why)
	}
	l.Begun("prog", true)
	if why := lacks(l, 12); !strings.Contains(why, "prog has not come to its end") {
		t.Errorf("in a line: %q", why)
	}
	l.Begun("prog", false)
	if why := lacks(l, 12); why != "" {
		t.Errorf("behind it: %s", why)
	}
}

// A waiter that falls behind a flood has not seen all of it.
func TestWaitThatFallsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		l.maxBytes = 10 * (lineOverhead + 1)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		go func() {
			_, err := l.Wait(ctx, 0, func(line Line) bool {
				if line.Seq == 0 {
					for range 20 {
						l.Append(Line{Text: "x"})
					}
				}
				return false
			})
			errs <- err
		}()
		l.Append(Line{Text: "x"})
		synctest.Wait()
		cancel()
		var lacking *IncompleteError
		if err := <-errs; !errors.As(err, &lacking) || !strings.HasPrefix(lacking.Why, "10 lines were not looked at") {
			t.Errorf("%v", err)
		}
	})
}
