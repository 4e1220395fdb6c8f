package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"

	"dsoftbus-rig/rig/pace/pacetest"
	"dsoftbus-rig/rig/record"
)

// A screen is a terminal as far as progress uses one, of a fixed width. It notes every line that wrapped.
type screen struct {
	columns int
	rows    []string
	row     []rune
	col     int
	wrapped []string
	esc     string
}

func (s *screen) write(out string) {
	for _, r := range out {
		switch {
		case s.esc != "" || r == '\x1b':
			s.esc += string(r)
			switch {
			case s.esc == "\x1b[K":
				s.row = s.row[:min(s.col, len(s.row))]
				s.esc = ""
			case strings.HasSuffix(s.esc, "m"):
				s.esc = ""
			}
		case r == '\r':
			s.col = 0
		case r == '\n':
			s.rows = append(s.rows, string(s.row))
			s.row, s.col = nil, 0
		default:
			s.row = append(s.row[:min(s.col, len(s.row))], r)
			s.col++
			if s.columns > 0 && s.col > s.columns {
				s.wrapped = append(s.wrapped, string(s.row))
			}
		}
	}
}

// buffer is a writer whose content can be taken while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.b.String()
	b.b.Reset()
	return s
}

func TestStatusLineLeavesTheSameLines(t *testing.T) {
	plain := string(show(t, Options{Verbose: true}))
	var s screen
	s.write(string(show(t, Options{Verbose: true, Live: true, Color: true, Width: func() int { return 40 }})))
	if got := strings.Join(s.rows, "\n") + "\n"; got != plain {
		t.Errorf("with a status line this stays on the screen:\n%s\nwithout:\n%s", got, plain)
	}
	if len(s.row) != 0 {
		t.Errorf("the status line is still there: %q", string(s.row))
	}
}

func TestStatusLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		var width atomic.Int64
		width.Store(60)
		p := NewProgress(&b, Options{Live: true, Width: func() int { return int(width.Load()) }})
		event := func(scenario string, e record.Event) {
			e.Scenario = scenario
			p.Event(e)
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := b.take(); got != want {
				t.Errorf("written: %q\nwant:    %q", got, want)
			}
		}
		event("", record.Event{Kind: record.KindRunStart, Total: 3})
		expect("")
		time.Sleep(time.Second)
		expect("")
		event("a/b", record.Event{Kind: record.KindScenarioStart})
		expect("[1/3] a/b 0s")
		// An event right behind waits for the next tick.
		event("a/b", record.Event{Kind: record.KindSection, Text: "first\x1b[2J"})
		event("a/b", record.Event{Kind: record.KindStepStart, Step: 1, Line: 2, Text: "up"})
		expect("")
		time.Sleep(tick)
		expect("\r\x1b[K" + `[1/3] a/b 0s # first\x1b[2J > up`)
		// Nothing changes, nothing is written.
		time.Sleep(tick)
		expect("")
		// Time goes on without any event.
		time.Sleep(time.Second)
		expect("\r\x1b[K" + `[1/3] a/b 1s # first\x1b[2J > up`)
		// So does a resize.
		width.Store(20)
		time.Sleep(tick)
		expect("\r\x1b[K[1/3] a/b 1s # f...")
		width.Store(0) // not known
		time.Sleep(tick)
		expect("\r\x1b[K" + `[1/3] a/b 1s # first\x1b[2J > up`)
		// Other output goes above it, in one write.
		p.Print("hello\n")
		expect("\r\x1b[Khello\n" + `[1/3] a/b 1s # first\x1b[2J > up`)
		// Several at once.
		event("c/d", record.Event{Kind: record.KindScenarioStart})
		expect("")
		time.Sleep(tick)
		expect("\r\x1b[K" + `[2/3] a/b 2s # first\x1b[2J > up | c/d 0s`)
		event("a/b", record.Event{Kind: record.KindScenarioEnd, Result: record.Unproven, Seconds: 2.5, Text: "no frame"})
		expect("\r\x1b[KUNPROVEN a/b 2.5s: no frame\n[2/3, 1 not green] c/d 0s")
		event("c/d", record.Event{Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 1})
		expect("\r\x1b[Kok c/d 1.0s\n")
		event("e/f", record.Event{Kind: record.KindScenarioStart})
		time.Sleep(tick)
		expect("[3/3, 1 not green] e/f 0s")
		// The end clears it, also under a scenario that never ended.
		if err := p.Finish(record.Summary{Seconds: 4}); err != nil {
			t.Fatal(err)
		}
		expect("\r\x1b[Ktotal 4.0s\n0 passed, 0 failed\n")
	})
}

// Scenarios that overtake each other are shown in their places, a failure also at once.
func TestPlannedOrder(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b buffer
			p := NewProgress(&b, Options{Verbose: verbose})
			p.Folder("runs/x")
			event := func(scenario string, e record.Event) {
				e.Scenario = scenario
				p.Event(e)
			}
			expect := func(plain, more string) {
				t.Helper()
				synctest.Wait()
				want := plain
				if verbose {
					want = more
				}
				if got := b.take(); got != want {
					t.Errorf("written: %q\nwant:    %q", got, want)
				}
			}
			event("", record.Event{Kind: record.KindRunStart, Total: 5})
			event("", record.Event{Kind: record.KindPlan, Plan: []string{"a/1", "a/2", "a/3", "a/4"}})
			event("a/3", record.Event{Kind: record.KindScenarioStart, File: "3"})
			event("a/2", record.Event{Kind: record.KindScenarioStart, File: "2"})
			event("a/3", record.Event{Kind: record.KindWarning, Text: "three"})
			event("a/3", record.Event{Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 3})
			expect("", "")
			failure := &record.Failure{Reason: record.StepFailed, Next: "Look."}
			event("a/2", record.Event{Kind: record.KindScenarioEnd, Result: record.Failed, Seconds: 2, Failure: failure})
			box := "  | a step of the script failed\n  | reason    step-failed\n  | next      Look.\n  | artifacts runs/x/a/2\n"
			ahead := "ahead of its turn: FAIL a/2 2.0s\n" + box
			expect(ahead, ahead)
			event("a/4", record.Event{Kind: record.KindScenarioStart, File: "4"})
			// The first one is never held up, and lets all behind it go as far as they have ended.
			event("a/1", record.Event{Kind: record.KindScenarioStart, File: "1"})
			expect("", "a/1   0.000s  start 1\n")
			event("a/1", record.Event{Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 1})
			expect("ok a/1 1.0s\nFAIL a/2 2.0s (shown above)\nwarning: a/3: three\nok a/3 3.0s\n",
				"ok a/1 1.0s\na/2   0.000s  start 2\nFAIL a/2 2.0s (shown above)\na/3   0.000s  start 3\nwarning: a/3: three\nok a/3 3.0s\na/4   0.000s  start 4\n")
			// Now it is the turn of the fourth, which shows as it goes.
			event("a/4", record.Event{Kind: record.KindWarning, Text: "four"})
			expect("warning: a/4: four\n", "warning: a/4: four\n")
			event("a/4", record.Event{Kind: record.KindScenarioEnd, Result: record.Failed, Seconds: 4, Failure: failure})
			box = strings.ReplaceAll(box, "a/2", "a/4")
			expect("FAIL a/4 4.0s\n"+box, "FAIL a/4 4.0s\n"+box)
			// What waits for somebody who never comes is shown in the end.
			event("", record.Event{Kind: record.KindPlan, Plan: []string{"b/1", "b/2"}})
			event("b/2", record.Event{Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 5})
			expect("", "")
			if err := p.Finish(record.Summary{Seconds: 4, NotPlayed: 1}); err != nil {
				t.Fatal(err)
			}
			end := "ok b/2 5.0s\ntotal 4.0s, record in runs/x\n0 passed, 0 failed, 1 not played\n"
			expect(end, end)
		})
	}
}

// stuck is a terminal that is held: it takes nothing until it is let go.
type stuck struct {
	free chan struct{}
	buffer
}

func (w *stuck) Write(p []byte) (int, error) {
	<-w.free
	return w.buffer.Write(p)
}

func TestHeldTerminalHoldsUpNothing(t *testing.T) {
	w := &stuck{free: make(chan struct{})}
	p := NewProgress(w, Options{Live: true, Verbose: true})
	const n = 10000
	p.Event(record.Event{Scenario: "a/b", Kind: record.KindScenarioStart})
	for range n {
		p.Event(record.Event{Scenario: "a/b", Kind: record.KindSection, Text: "x"})
	}
	close(w.free)
	if err := p.Finish(record.Summary{}); err != nil {
		t.Fatal(err)
	}
	var s screen
	s.write(w.take())
	if want := n + 3; len(s.rows) != want {
		t.Errorf("%d lines, want %d", len(s.rows), want)
	}
}

func TestConcurrentUse(t *testing.T) {
	var b buffer
	p := NewProgress(&b, Options{Live: true})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("a/", i)
			p.Event(record.Event{Scenario: name, Kind: record.KindScenarioStart})
			p.Print(name)
			p.Event(record.Event{Scenario: name, Kind: record.KindScenarioEnd, Result: record.Passed})
		})
	}
	wg.Wait()
	if err := p.Finish(record.Summary{}); err != nil {
		t.Fatal(err)
	}
	var s screen
	s.write(b.take())
	if len(s.rows) != 18 {
		t.Errorf("%d lines, want 18:\n%s", len(s.rows), strings.Join(s.rows, "\n"))
	}
}

func TestDetect(t *testing.T) {
	env := func(vars map[string]string) func(string) string { return func(k string) string { return vars[k] } }
	_, tty := openPTY(t)
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tests := []struct {
		name        string
		f           *os.File
		env         map[string]string
		live, color bool
	}{
		{"terminal", tty, map[string]string{"TERM": "xterm"}, true, true},
		{"NO_COLOR", tty, map[string]string{"NO_COLOR": "1"}, true, false},
		{"dumb terminal", tty, map[string]string{"TERM": "dumb"}, false, false},
		{"file", file, nil, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Detect(tt.f, env(tt.env))
			if o.Live != tt.live || o.Color != tt.color || o.Verbose {
				t.Errorf("%+v", o)
			}
		})
	}
	if w := Detect(tty, env(nil)).Width(); w != 80 {
		t.Errorf("width %d, want 80", w)
	}
	o := Detect(tty, env(nil))
	tty.Close()
	if w := o.Width(); w != 0 {
		t.Errorf("width %d of a terminal that is gone", w)
	}
}

// openPTY returns both ends of a pseudo-terminal of 80 columns.
func openPTY(t *testing.T) (ptm, tty *os.File) {
	t.Helper()
	ptm, tty, err := pty.Open()
	if err != nil {
		t.Skipf("this host gives no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { ptm.Close(); tty.Close() })
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	return ptm, tty
}

// terminal reads the user's side of a pseudo-terminal.
type terminal struct {
	t    *testing.T
	out  chan string
	seen strings.Builder
}

func newTerminal(t *testing.T, ptm *os.File) *terminal {
	term := &terminal{t: t, out: make(chan string, 1000)}
	go func() {
		defer close(term.out)
		buf := make([]byte, 4096)
		for {
			n, err := ptm.Read(buf)
			if n > 0 {
				term.out <- string(buf[:n])
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EIO) && !errors.Is(err, os.ErrClosed) {
					t.Errorf("read the terminal: %v", err)
				}
				return
			}
		}
	}()
	return term
}

// until reads until text has come, and returns everything read so far that was not returned before.
func (term *terminal) until(text string) string {
	term.t.Helper()
	timeout := time.After(pacetest.Limit(20 * time.Second))
	for !strings.Contains(term.seen.String(), text) {
		select {
		case s, ok := <-term.out:
			if !ok {
				term.t.Fatalf("the terminal ended before %q:\n%q", text, term.seen.String())
			}
			term.seen.WriteString(s)
		case <-timeout:
			term.t.Fatalf("%q did not come:\n%q", text, term.seen.String())
		}
	}
	s := term.seen.String()
	term.seen.Reset()
	return s
}

func TestRealTerminal(t *testing.T) {
	ptm, tty := openPTY(t)
	term := newTerminal(t, ptm)
	p := NewProgress(tty, Detect(tty, func(string) string { return "" }))
	p.Event(record.Event{Kind: record.KindRunStart, Total: 1})
	p.Event(record.Event{Scenario: "a/b", Kind: record.KindScenarioStart})
	long := strings.Repeat("0123456789", 12)
	step := func(name string) {
		p.Event(record.Event{Scenario: "a/b", Kind: record.KindStepStart, Step: 1, Line: 1, Text: name + " " + long + " " + strings.Repeat("\u4e16", 50)})
	}
	check := func(columns int, out string) {
		t.Helper()
		s := screen{columns: columns - 1}
		s.write(out)
		if len(s.wrapped) > 0 {
			t.Errorf("%d columns are too few for %q", columns, s.wrapped[0])
		}
		if len(s.rows) > 0 {
			t.Errorf("the status line left %q behind", s.rows)
		}
	}
	step("first")
	check(80, term.until("first 0123456789"))

	// Narrower: what is drawn for the new step fits the new width. (What was drawn before may have been on its way.)
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 30}); err != nil {
		t.Fatal(err)
	}
	step("second")
	out := term.until("second")
	out = out[strings.LastIndex(out, "\r"):] + term.until("...")
	check(30, out)

	// Wider again.
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	step("third")
	out = term.until("third 0123456789")
	check(120, out[strings.LastIndex(out, "\r"):])

	p.Event(record.Event{Scenario: "a/b", Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 6.24})
	out = term.until("a/b 6.2s")
	if !strings.Contains(out, "\r\x1b[K\x1b[32mok\x1b[m a/b 6.2s") {
		t.Errorf("the verdict did not take the status line's place: %q", out)
	}
	if err := p.Finish(record.Summary{Scenarios: []record.ScenarioSummary{{Name: "a/b", Result: record.Passed}}}); err != nil {
		t.Fatal(err)
	}
	out = term.until("1 passed, 0 failed\r\n")
	var s screen
	s.write(out)
	if n := len(s.rows); n < 2 || s.rows[n-2] != "total 0.0s" || s.rows[n-1] != "1 passed, 0 failed" || len(s.row) != 0 {
		t.Errorf("the end is %q, %q", s.rows, string(s.row))
	}
}
