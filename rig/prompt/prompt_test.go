package prompt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
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

// A screen is a real terminal with a prompt on it.
type screen struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	ended  chan error

	mu      sync.Mutex
	shown   bytes.Buffer
	changed chan struct{}
	seen    int
}

func open(t *testing.T) *screen {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	// One that can be closed while it is read.
	fd, err := unix.Dup(int(master.Fd()))
	if err == nil {
		err = errors.Join(master.Close(), unix.SetNonblock(fd, true))
	}
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "terminal")
	s := &screen{t: t, master: master, slave: slave, ended: make(chan error, 1), changed: make(chan struct{}, 1)}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.shown.Write(buf[:n])
			s.mu.Unlock()
			select {
			case s.changed <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

func (s *screen) start(ctx context.Context, f *fakeScenario, o Options) {
	o.Text, o.Over, o.Moves = "rig> ", f.over, []string{"continue"}
	terminal := NewTerminal(s.slave, s.slave)
	go func() { s.ended <- Run(ctx, terminal, f, o) }()
	s.shows("rig> ")
}

func (s *screen) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// shows waits until something is shown, behind what was looked for before.
func (s *screen) shows(want string) {
	s.t.Helper()
	late := time.After(10 * time.Second)
	for {
		all := s.all()
		if i := strings.Index(all[s.seen:], want); i >= 0 {
			s.seen += i + len(want)
			return
		}
		select {
		case <-s.changed:
		case <-late:
			s.t.Fatalf("never shown: %q; shown is %q", want, all[s.seen:])
		}
	}
}

func (s *screen) ends(want error) {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if !errors.Is(err, want) {
			s.t.Errorf("it ended with %v, want %v", err, want)
		}
	case <-time.After(10 * time.Second):
		s.t.Fatal("it does not end")
	}
}

func TestLinesAndEnd(t *testing.T) {
	s, f := open(t), newFake()
	before, err := term.GetState(int(s.slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	s.start(t.Context(), f, Options{})
	s.types("first line\r")
	s.shows("did first line")
	s.shows("! said\r\n")
	s.shows("A 1.500 [dsoftbusd] ready\r\n")
	s.shows("rig> ")
	s.types("fail\r")
	s.shows("it failed:")
	s.shows("\r\nin two lines\r\n")
	s.shows("rig> ")
	s.types("\x04")
	s.ends(nil)
	if got := f.given(); got != "first line|fail" {
		t.Errorf("given were %q", got)
	}
	after, err := term.GetState(int(s.slave.Fd()))
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %+v, %v", after, err)
	}
	if strings.ContainsAny(s.all(), "\x07") || strings.Contains(s.all(), "\x1b[2J") {
		t.Errorf("shown as it came: %q", s.all())
	}
}

// Ctrl-C ends the line that runs, else it empties the one that is edited.
func TestInterrupt(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.types("hang\r")
	s.shows("hanging")
	s.types("typed ahead\r\x03")
	s.shows("interrupted")
	s.shows("did typed ahead")
	s.shows("rig> ")
	s.types("nonsense\x03other\r")
	s.shows("did other")
	s.types("\x04")
	s.ends(nil)
	if got := f.given(); got != "hang|typed ahead|other" {
		t.Errorf("given were %q", got)
	}
}

func TestCompletionOnTheTerminal(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.types("m\t")
	s.shows("marke")
	s.types("\t")
	s.shows("marker  markets")
	s.types("r\t A\t\r")
	s.shows("did marker  A:")
	s.types("fo\t\t")
	s.shows("follow ")
	s.shows("A  B  off")
	s.types("o\t\r\x04")
	s.ends(nil)
}

func TestFollow(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.types("follow C\r")
	s.shows(`there is no node "C"; there are A, B`)
	s.types("follow B\r")
	s.shows("rig> ")
	s.types("half a li")
	s.shows("half a li")
	f.logs["A"].Append(console.Line{Unit: "kernel", Text: "not followed"})
	f.logs["B"].Append(console.Line{Unit: "kernel", Text: "tick \x1b[2J", Guest: 2 * time.Second})
	s.shows("B 2.000 [kernel] tick")
	s.shows("half a li") // the line that is edited comes again below
	s.types("ne\rfollow off\r")
	s.shows("did half a line")
	s.shows("rig> ")
	s.types("\x04")
	s.ends(nil)
	if strings.Contains(s.all(), "not followed") {
		t.Error("A was followed")
	}
}

// Who is not asked any more gives the terminal back, in the middle of a line.
func TestOver(t *testing.T) {
	s, f := open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.types("half")
	s.shows("half")
	close(f.over)
	s.ends(ErrOver)

	s, f = open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.types("continue\r")
	s.ends(ErrOver)

	ctx, cancel := context.WithCancelCause(t.Context())
	s, f = open(t), newFake()
	s.start(ctx, f, Options{})
	why := errors.New("enough")
	cancel(why)
	s.ends(why)

	s, f = open(t), newFake()
	s.start(t.Context(), f, Options{})
	s.master.Close()
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
	s.types("one\rtwo\r")
	s.shows("did two")
	s.types("\x1b[A\x1b[A\r")
	s.shows("did one")
	s.types("\x04")
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
