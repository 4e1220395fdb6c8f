package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/process"
	"dsoftbus-rig/rig/pace/pacetest"

	"golang.org/x/sys/unix"
)

// A screen is the near side of a shell: what it shows is waited for, what is typed goes to it.
type screen struct {
	t      *testing.T
	in     *io.PipeWriter
	shown  chan string
	so     string // far, shown and not yet looked at
	sizes  chan agentapi.Size
	ended  chan struct{}
	exit   agentapi.Exit
	err    error
	cancel context.CancelCauseFunc
}

// atScreen runs a shell script on a terminal of 24 by 80.
func (m *standIn) atScreen(t *testing.T, argv ...string) *screen {
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	s := &screen{t: t, in: w, shown: make(chan string, 1000), sizes: make(chan agentapi.Size), ended: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(s.ended)
		defer close(s.shown)
		s.exit, s.err = m.Shell(ctx, agentapi.Shell{Argv: argv, Term: "vt100", Size: agentapi.Size{Rows: 24, Cols: 80}}, r,
			reads(func(b []byte) { s.shown <- string(b) }), s.sizes)
	}()
	t.Cleanup(func() {
		cancel(nil)
		w.Close()
		<-s.ended
	})
	return s
}

// await waits until the terminal shows text, and returns what it showed before.
func (s *screen) await(text string) string {
	s.t.Helper()
	for {
		if before, after, ok := strings.Cut(s.so, text); ok {
			s.so = after
			return before
		}
		select {
		case more, ok := <-s.shown:
			if !ok {
				s.t.Fatalf("the shell ended (%+v, %v) without %q; it showed %q", s.exit, s.err, text, s.so)
			}
			s.so += more
		case <-time.After(pacetest.Limit(20 * time.Second)):
			s.t.Fatalf("no %q; it showed %q", text, s.so)
		}
	}
}

func (s *screen) typeIn(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, text); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the shell's end and returns its status.
func (s *screen) end() int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(pacetest.Limit(20 * time.Second)):
		s.t.Fatal("the shell does not end")
	}
	if s.err != nil {
		s.t.Fatal(s.err)
	}
	return s.exit.Status
}

func TestShell(t *testing.T) {
	m := newStandIn(t)
	s := m.atScreen(t, "sh", "-c", `test -t 0 && test -t 1 && test -t 2 && echo terminal $TERM $HOME $PWD; stty size; read line; echo "<$line>"; echo oops >&2; exit 7`)
	s.await("terminal vt100 / /\r\n24 80\r\n")
	s.typeIn("secret words\n")
	s.await("secret words\r\n<secret words>\r\noops\r\n") // with its echo
	if status := s.end(); status != 7 {
		t.Errorf("status %d", status)
	}
	lines := m.lines(t)
	if int(s.exit.JournalSeq) != len(lines) {
		t.Errorf("the journal has %d lines, the result says %d", len(lines), s.exit.JournalSeq)
	}
	journal := strings.Join(lines[1:], "\n") // the first one says that the rig is connected
	if len(lines) != 3 || !strings.Contains(journal, "(sh) began on a terminal: sh -c") || !strings.Contains(journal, "(sh) ended: exit status 7, after ") ||
		strings.Contains(journal, "secret") {
		t.Errorf("journal:\n%s", journal)
	}
}

func TestShellIsResized(t *testing.T) {
	m := newStandIn(t)
	s := m.atScreen(t, "sh", "-c", `trap 'stty size; exit 0' WINCH; echo up; while :; do read x; done`)
	s.await("up")
	s.sizes <- agentapi.Size{Rows: 50, Cols: 132}
	s.await("50 132\r\n")
	close(s.sizes) // a terminal of which no more is known goes on
	s.typeIn("\n")
	s.end()
}

// Ctrl-C reaches what runs in front, and the shell lives on; an end of input by Ctrl-D is one.
func TestShellKeys(t *testing.T) {
	m := newStandIn(t)
	s := m.atScreen(t, "sh", "-i")
	// The one in front says that it is: before, the keys would be the shell's own.
	s.typeIn("sh -c 'echo re\"\"ady; exec sleep 1000'\n")
	s.await("ready\r\n")
	s.typeIn("\x03")
	s.typeIn("echo st''atus $?\n")
	s.await("status 130")
	s.typeIn("\x04")
	s.end()
}

// u-root's shell runs programs in its own process group, and would die of the keys that end them.
func TestShellSurvivesTheKeysForItsPrograms(t *testing.T) {
	m := newStandIn(t)
	gosh := filepath.Join(t.TempDir(), "gosh")
	says := func(what string) string { return "sh -c 'echo " + what + "; exec sleep 1000'\necho ended $?\n" }
	if err := os.WriteFile(gosh, []byte("#!/bin/sh\n"+says("one")+says("two")+"stty -isig; echo three; head -c 2 | od -c; stty isig; echo four; while :; do :; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := m.atScreen(t, gosh)
	s.await("one")
	s.typeIn("\x03")
	s.await("ended 130\r\n")
	s.await("two")
	s.typeIn("\x1c")
	s.await("ended 131\r\n")
	// As keys, where they are no signals; and for the shell itself, when it runs nothing.
	s.await("three")
	s.typeIn("\x03\n")
	s.await(`003  \n`)
	s.await("four")
	s.typeIn("\x03")
	if status := s.end(); status != 130 {
		t.Errorf("status %d", status)
	}
}

// When the rig goes away its terminal hangs up, and nothing of the session is left: neither what ignores that, nor what runs behind.
func TestShellHangsUp(t *testing.T) {
	m := newStandIn(t)
	dir := t.TempDir()
	hup := filepath.Join(dir, "hup")
	s := m.atScreen(t, "sh", "-c", `(trap '' HUP; echo stubborn $$; exec sleep 1000) & trap 'echo hup >`+hup+`; exit 0' HUP; sleep 1000 & echo pids $$ $! up; while :; do wait; done`)
	before := s.await("up\r\n")
	var leader, child int
	if _, err := fmt.Sscanf(before[strings.Index(before, "pids"):], "pids %d %d", &leader, &child); err != nil {
		t.Fatalf("%q: %v", before, err)
	}
	ends := sessionOf(t, leader)
	if len(ends) != 3 {
		t.Fatalf("%d processes", len(ends))
	}
	over := errors.New("enough")
	s.cancel(over)
	<-s.ended
	if !errors.Is(s.err, over) {
		t.Errorf("got %v", s.err)
	}
	for _, fd := range ends {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
			t.Errorf("a process was left behind (%v)", err)
		}
	}
	if _, err := os.Stat(hup); err != nil {
		t.Errorf("the leader was not hung up on: %v", err)
	}
	awaitJournal(t, m, "(sh) ended: exit status 0")
}

// sessionOf returns a descriptor of each process of a session.
func sessionOf(t *testing.T, leader int) (fds []int) {
	t.Helper()
	pids, err := process.Session(process.Proc, leader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

func awaitJournal(t *testing.T, m *standIn, text string) {
	t.Helper()
	for deadline := time.Now().Add(pacetest.Limit(20 * time.Second)); ; {
		if slices.ContainsFunc(m.lines(t), func(line string) bool { return strings.Contains(line, text) }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %q", text, m.lines(t))
		}
	}
}

// What a shell leaves behind holds its end up no longer than a program's does, and is ended with it.
func TestShellThatLeavesSomethingBehind(t *testing.T) {
	m := newStandIn(t)
	s := m.atScreen(t, "sh", "-c", `(trap '' HUP; exec sleep 1000) & echo $$ up; read x; exit 4`)
	var leader int
	if _, err := fmt.Sscan(s.await("up\r\n"), &leader); err != nil {
		t.Fatal(err)
	}
	ends := sessionOf(t, leader)
	s.typeIn("\n")
	if status := s.end(); status != 4 || len(ends) != 2 {
		t.Errorf("status %d, %d processes", status, len(ends))
	}
	for _, fd := range ends {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
			t.Errorf("a process was left behind (%v)", err)
		}
	}
}

// Behind its end a shell takes what one read was waiting for, and nothing else that is typed for somebody else.
func TestShellLetsGoOfItsInput(t *testing.T) {
	m := newStandIn(t)
	r, w := io.Pipe()
	if _, err := m.Shell(t.Context(), agentapi.Shell{Argv: []string{"true"}}, r, io.Discard, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "lost"); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(50*time.Millisecond, func() { r.Close() })
	defer late.Stop()
	if _, err := io.WriteString(w, "kept"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it was read (%v)", err)
	}
}

func TestShellOfMuchOutput(t *testing.T) {
	m := newStandIn(t)
	s := m.atScreen(t, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end")
	if n := len(s.await("end\r\n")); n != 3_000_000 {
		t.Errorf("%d bytes", n)
	}
	s.end()
}

// A program that does not read what is typed neither holds up who types, nor the hang-up.
func TestShellThatReadsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as what is typed is given time")
	}
	m := newStandIn(t)
	s := m.atScreen(t, "sh", "-c", "stty raw -echo; echo up; sleep 1000")
	s.await("up")
	s.typeIn(strings.Repeat("0123456789\n", 20_000)) // more than a terminal keeps, less than a stream does
	s.cancel(errors.New("enough"))
	<-s.ended
	awaitJournal(t, m, "(sh) ended: signal: hangup")
}

func TestShellThatCannotStart(t *testing.T) {
	m := newStandIn(t)
	_, err := m.Shell(t.Context(), agentapi.Shell{Argv: []string{"no-such-shell"}}, strings.NewReader(""), io.Discard, nil)
	if err == nil || !strings.Contains(err.Error(), "run no-such-shell on a terminal: exec:") {
		t.Errorf("got %v", err)
	}
	// The default one is u-root's, which no host has.
	if _, err := m.Shell(t.Context(), agentapi.Shell{}, strings.NewReader(""), io.Discard, nil); err == nil || !strings.Contains(err.Error(), "run gosh on a terminal") {
		t.Errorf("the default: %v", err)
	}
}

// A terminal of the rig's that takes nothing any more is hung up on.
func TestShellThatNobodySees(t *testing.T) {
	m := newStandIn(t)
	gone := errors.New("gone")
	_, err := m.Shell(t.Context(), agentapi.Shell{Argv: []string{"sh", "-c", "echo up; sleep 1000"}}, strings.NewReader(""), fails{gone}, nil)
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("got %v", err)
	}
}

type fails struct{ err error }

func (f fails) Write([]byte) (int, error) { return 0, f.err }
