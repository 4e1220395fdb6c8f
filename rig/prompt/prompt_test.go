package prompt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/ptytest"
	"dsoftbus-rig/rig/record"
)

// A fakeScenario knows some words.
type fakeScenario struct {
	logs map[string]*console.Log

	mu    sync.Mutex
	lines []string // that it was given
	over  chan struct{}
}

func newFake() *fakeScenario {
	return &fakeScenario{logs: map[string]*console.Log{"A": console.NewLog(), "B": console.NewLog()}, over: make(chan struct{})}
}

func (f *fakeScenario) Do(ctx context.Context, line string, tell func(record.Event)) error {
	f.mu.Lock()
	f.lines = append(f.lines, line)
	f.mu.Unlock()
	switch line {
	case "fail":
		return errors.New("it failed:\x1b[2J\nin two lines")
	case "hang":
		tell(record.Event{Kind: record.KindOutput, Stream: "stdout", Text: "hanging\n"})
		<-ctx.Done()
		return context.Cause(ctx)
	case "continue":
		// It goes on a little later than the line is done.
		time.AfterFunc(20*time.Millisecond, func() { close(f.over) })
	}
	tell(record.Event{Kind: record.KindOutput, Stream: "stdout", Text: "did " + line + "\x07\n"})
	tell(record.Event{Kind: record.KindOutput, Stream: "stderr", Text: "said\n"})
	tell(record.Event{Kind: record.KindMarker, Node: "A", Unit: "dsoftbusd", Text: "ready", Guest: 1.5})
	return nil
}

func (f *fakeScenario) given() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.lines, "|")
}

func (f *fakeScenario) Complete(_ context.Context, line string, pos int) (int, []string, error) {
	all := []string{"marker", "markets", "exec", "A:"}
	start := strings.LastIndexByte(line[:pos], ' ') + 1
	return start, slices.DeleteFunc(all, func(w string) bool { return !strings.HasPrefix(w, line[start:pos]) }), nil
}

func (f *fakeScenario) Nodes(context.Context) ([]string, error) { return []string{"A", "B"}, nil }

func (f *fakeScenario) Lines(ctx context.Context, node string, tell func(console.Line)) error {
	log := f.logs[node]
	for from := log.Len(); ; from++ {
		l, err := log.Wait(ctx, from, func(console.Line) bool { return true })
		if err != nil {
			return err
		}
		tell(l)
	}
}

// limit bounds every wait of these tests. It is no figure: a busy host takes what it takes.
const limit = 10 * time.Second

// A screen is a real terminal with a prompt on it.
type screen struct {
	*ptytest.Terminal
	t     *testing.T
	ended chan error
}

func open(t *testing.T) *screen {
	t.Helper()
	return &screen{Terminal: ptytest.Open(t, 24, 80, limit), t: t, ended: make(chan error, 1)}
}

func (s *screen) start(ctx context.Context, f *fakeScenario, o Options) {
	s.t.Helper()
	o.Over, o.Moves = f.over, []string{"continue"}
	s.run(ctx, NewTerminal(s.Slave(), s.Slave()), f, o)
	s.Shows("rig> ")
}

// run opens a prompt, which may not be the first one of the terminal.
func (s *screen) run(ctx context.Context, terminal *Terminal, f *fakeScenario, o Options) {
	o.Text = "rig> "
	go func() { s.ended <- Run(ctx, terminal, f, o) }()
}

func (s *screen) ends(want error) {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if !errors.Is(err, want) {
			s.t.Errorf("it ended with %v, want %v", err, want)
		}
	case <-time.After(limit):
		s.t.Fatal("it does not end")
	}
}

func TestLinesAndEnd(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.Types("first line\r")
	s.Shows("did first line")
	s.Shows("! said\r\n")
	s.Shows(`A 1\.500 \[dsoftbusd\] ready\r\n`)
	s.Shows("rig> ")
	s.Types("fail\r")
	s.Shows("it failed:")
	s.Shows("\r\nin two lines\r\n")
	s.Shows("rig> ")
	s.Types("\x04")
	s.ends(nil)
	if got := f.given(); got != "first line|fail" {
		t.Errorf("given were %q", got)
	}
	s.IsAsBefore()
	if strings.ContainsAny(s.Text(), "\x07") || strings.Contains(s.Text(), "\x1b[2J") {
		t.Errorf("shown as it came: %q", s.Text())
	}
}

// Ctrl-C ends the line that runs, else it empties the one that is edited.
func TestInterrupt(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.Types("hang\r")
	s.Shows("hanging")
	s.Types("typed ahead\r\x03")
	s.Shows("interrupted")
	s.Shows("did typed ahead")
	s.Shows("rig> ")
	s.Types("nonsense\x03other\r")
	s.Shows("did other")
	s.Types("\x04")
	s.ends(nil)
	if got := f.given(); got != "hang|typed ahead|other" {
		t.Errorf("given were %q", got)
	}
}

// What is typed before the prompt opens is for it, and what is typed behind a
// line that lets the scenario go on is for the next prompt.
func TestTypedAhead(t *testing.T) {
	s, f := open(t), newFake()
	s.Types("one\rtw") // the terminal is not raw yet, and has the end of this line only
	s.Shows("one\r\ntw")
	terminal := NewTerminal(s.Slave(), s.Slave())
	kept := func(want string) {
		t.Helper()
		for late := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
			terminal.mu.Lock()
			typed := string(terminal.typed)
			terminal.mu.Unlock()
			if typed == want {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("it keeps %q, want %q", typed, want)
			}
		}
	}
	kept("one\n")
	run := func(f *fakeScenario) {
		s.run(t.Context(), terminal, f, Options{Over: f.over, Moves: []string{"continue"}})
	}
	run(f)
	s.Shows("did one")
	s.Types("o\rcontinue\rthree\rfour\r")
	s.Shows("did two")
	s.ends(ErrOver)
	s.IsAsBefore()
	if got := f.given(); got != "one|two|continue" {
		t.Errorf("given were %q", got)
	}
	f = newFake()
	run(f)
	s.Shows("did three")
	s.Shows("did four")
	s.Shows("rig> ")
	s.Types("\x04")
	s.ends(nil)
	// An end that is typed while nobody reads is one of a prompt, and not of
	// the terminal.
	s.Types("five\r\x04")
	kept("five\n\x04") // raw, the terminal would not make an end of it
	f = newFake()
	run(f)
	s.Shows("did five")
	s.ends(nil)
	f = newFake()
	run(f)
	s.Types("six\r")
	s.Shows("did six")
	s.Types("\x04")
	s.ends(nil)
}

// Ctrl-R looks for an earlier line, as in shells.
func TestSearch(t *testing.T) {
	h := &History{}
	for _, line := range []string{"exec A hostname", "marker B ready", "exec B hostname", "link B down"} {
		h.Add(line)
	}
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{History: h})
	for _, c := range []struct{ keys, shows, given string }{
		{"\x12host\r", `\(search: host\) exec B hostname`, "exec B hostname"},
		{"\x12down\r", `\(search: down\) link B down`, "link B down"},
		{"\x12exec\x12\x12\r", `\(search: exec\) exec A hostname`, "exec A hostname"},
		{"\x12readx\x7fy\r", `\(search: ready\) marker B ready`, "marker B ready"},
		{"\x12down\x1b[Ds\r", `\(search: down\) link B down`, "link B dowsn"}, // another key edits what was found
		{"mine\x12ready\x07\r", `\(search: ready\) marker B ready`, "mine"},
		{"mine\x12nothing\r", `\(search: nothing, nothing\) `, "mine"},
		{"\x12ready\x03other\r", `\(search: ready\) marker B ready`, "other"},
		{"\x12\x12\r", `\(search: \) `, ""},
	} {
		before := f.given()
		s.Types(c.keys[:len(c.keys)-1])
		s.Shows(c.shows)
		s.Types("\r")
		want := before
		if c.given != "" {
			s.Shows("did " + c.given)
			if want += "|"; before == "" {
				want = ""
			}
			want += c.given
		}
		s.Shows("rig> ")
		if got := f.given(); got != want {
			t.Errorf("%q: given were %q, want %q", c.keys, got, want)
		}
	}
	s.Types("\x04")
	s.ends(nil)
	if h.At(0) != "other" {
		t.Errorf("the newest line is %q", h.At(0))
	}
}

func TestCompletionOnTheTerminal(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.Types("m\t")
	s.Shows("marke")
	s.Types("\t")
	s.Shows("marker  markets")
	s.Types("r\t A\t\r")
	s.Shows("did marker  A:")
	s.Types("fo\t\t")
	s.Shows("follow ")
	s.Shows("A  B  off")
	s.Types("o\t\r\x04")
	s.ends(nil)
}

func TestFollow(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.Types("follow C\r")
	s.Shows(`there is no node "C"; there are A, B`)
	s.Types("follow B\r")
	s.Shows("rig> ")
	s.Types("half a li")
	s.Shows("half a li")
	f.logs["A"].Append(console.Line{Unit: "kernel", Text: "not followed"})
	f.logs["B"].Append(console.Line{Unit: "kernel", Text: "tick \x1b[2J", Guest: 2 * time.Second})
	s.Shows(`B 2\.000 \[kernel\] tick`)
	s.Shows("half a li") // the line that is edited comes again below
	s.Types("ne\rfollow off\r")
	s.Shows("did half a line")
	s.Shows("rig> ")
	s.Types("\x04")
	s.ends(nil)
	if strings.Contains(s.Text(), "not followed") {
		t.Error("A was followed")
	}
}

// Who is not asked any more gives the terminal back, in the middle of a line.
func TestOver(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.Types("half")
	s.Shows("half")
	close(f.over)
	s.ends(ErrOver)
	s.IsAsBefore()

	s, f = open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.Types("continue\r")
	s.ends(ErrOver)
	s.IsAsBefore()

	ctx, cancel := context.WithCancelCause(t.Context())
	s, f = open(t), newFake()
	s.start(ctx, f, Options{})
	why := errors.New("enough")
	cancel(why)
	s.ends(why)
	s.IsAsBefore()

	s, f = open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.HangUp()
	s.ends(nil)
}

func TestHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "below", "history")
	h, err := LoadHistory(file)
	if err != nil || h.Len() != 0 {
		t.Fatalf("%d, %v", h.Len(), err)
	}
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{History: h})
	s.Types("one\rtwo\r")
	s.Shows("did two")
	s.Types("\x1b[A\x1b[A\r")
	s.Shows("did one")
	s.Types("\x04")
	s.ends(nil)
	if got := f.given(); got != "one|two|one" {
		t.Errorf("given were %q", got)
	}
	for i := range maxHistory + 5 {
		h.Add(fmt.Sprint("line ", i))
		h.Add(fmt.Sprint("line ", i))
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := LoadHistory(file)
	if err != nil || again.Len() != maxHistory || again.At(0) != fmt.Sprint("line ", maxHistory+4) || again.At(maxHistory-1) != "line 5" {
		t.Errorf("%d lines, %v", again.Len(), err)
	}
}

func TestRunLines(t *testing.T) {
	f := newFake()
	var out bytes.Buffer
	err := RunLines(t.Context(), NewLines(strings.NewReader("one\n\nfollow\ntwo\nfail\nthree\n"), &out), f, Options{})
	if err == nil || !strings.Contains(err.Error(), "it failed") || f.given() != "one|two|fail" {
		t.Errorf("%v, given were %q", err, f.given())
	}
	if !strings.Contains(out.String(), "did one") || !strings.Contains(out.String(), "in two lines\n") {
		t.Errorf("shown %q", out.String())
	}
	// What one prompt leaves is for the next.
	lines := NewLines(strings.NewReader("one\ncontinue\ntwo\n"), io.Discard)
	f = newFake()
	if err := RunLines(t.Context(), lines, f, Options{Over: f.over, Moves: []string{"continue"}}); !errors.Is(err, ErrOver) || f.given() != "one|continue" {
		t.Errorf("it went on, but %v, given were %q", err, f.given())
	}
	f = newFake()
	if err := RunLines(t.Context(), lines, f, Options{Over: f.over, Moves: []string{"continue"}}); err != nil || f.given() != "two" {
		t.Errorf("%v, given were %q", err, f.given())
	}
}
