package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"dsoftbus-rig/rig/record"
)

// Bounds of what a step's output may cost. A program that prints more goes on
// undisturbed, the rest is read and dropped.
const (
	maxKept   = 16 << 20 // bytes of stdout, and of stderr, that later commands can look at
	maxTold   = 1 << 20  // bytes of both that go out as events
	maxEvents = 4096     // events they may take
	chunk     = 32 << 10 // bytes of one event; what has no line end is passed on in pieces of this size
)

// A text is one stream of output that a command has left.
type text struct {
	data []byte
	lost int64 // bytes beyond maxKept, which were dropped
}

func (t *text) append(p []byte) {
	room := min(maxKept-len(t.data), len(p))
	t.data = append(t.data, p[:room]...)
	t.lost += int64(len(p) - room)
}

// whole returns the output, or an error if a part of it was dropped.
func (t *text) whole(name string) ([]byte, error) {
	if t.lost > 0 {
		return nil, &stepError{reason: record.StepFailed, trouble: true,
			next: "Let the program write to a file on its node and `pull` that.",
			err:  fmt.Errorf("%s is incomplete: it has more than %d MiB", name, maxKept>>20)}
	}
	return t.data, nil
}

// output is what a step leaves in stdout and stderr.
type output struct {
	stdout, stderr text
	nodes          []string // that it came from
}

// origin returns the node that stdout or stderr came from, when it is one of these names and was left by one node alone.
func (e *Engine) origin(names ...string) string {
	if len(e.last.nodes) == 1 && (slices.Contains(names, "stdout") || slices.Contains(names, "stderr")) {
		return e.last.nodes[0]
	}
	return ""
}

// A teller passes a step's output on as events, within the step's bounds.
type teller struct {
	to    func(record.Event)
	step  int
	typed bool // the step is a line that a person has typed

	mu     sync.Mutex
	bytes  int
	events int
	full   bool
}

func (t *teller) tell(stream, node, s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.full {
		return
	}
	if t.bytes+len(s) > maxTold || t.events == maxEvents {
		t.full = true
		stream, node, s = "note", "", "output goes on; what follows is not recorded"
	}
	t.bytes += len(s)
	t.events++
	t.emit(record.Event{Kind: record.KindOutput, Stream: stream, Node: node, Text: s})
}

// emit passes on an event of the step.
func (t *teller) emit(ev record.Event) {
	ev.Step, ev.Typed = t.step, t.typed
	t.to(ev)
}

// end passes on the end of a step that failed with err, or with what its prefix
// lets it fail with.
func (t *teller) end(start time.Time, err, ignored error) {
	ev := record.Event{Kind: record.KindStepEnd, Seconds: record.Seconds(time.Since(start))}
	var end *End
	switch {
	case err != nil && !errors.As(err, &end):
		ev.Error = err.Error()
	case ignored != nil:
		ev.Error, ev.Ignored = ignored.Error(), true
	}
	t.emit(ev)
}

// note passes on a remark of the engine.
func (t *teller) note(format string, args ...any) {
	t.tell("note", "", fmt.Sprintf(format, args...))
}

// A stream is the writer for one stream of a program. It keeps the text and tells
// it in whole lines as they come.
type stream struct {
	teller *teller
	name   string // "stdout" or "stderr"
	node   string

	mu      sync.Mutex
	kept    text
	pending []byte // not told yet
	closed  bool
}

// Write takes all of p; it never fails, so that no program stops for it.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return len(p), nil
	}
	s.kept.append(p)
	for rest := p; len(rest) > 0; {
		n := min(chunk-len(s.pending), len(rest))
		s.pending = append(s.pending, rest[:n]...)
		rest = rest[n:]
		if i := bytes.LastIndexByte(s.pending, '\n'); i >= 0 {
			s.pass(i + 1)
		} else if len(s.pending) == chunk {
			s.pass(runeEnd(s.pending))
		}
	}
	return len(p), nil
}

// pass tells the first n pending bytes.
func (s *stream) pass(n int) {
	s.teller.tell(s.name, s.node, string(s.pending[:n]))
	s.pending = append(s.pending[:0], s.pending[n:]...)
}

// runeEnd returns the length of p without a character that is cut off at its end.
func runeEnd(p []byte) int {
	for i := len(p) - 1; i > 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return i
			}
			break
		}
	}
	return len(p)
}

// close tells what is left and returns the text. What is written later is dropped.
func (s *stream) close() text {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if len(s.pending) > 0 {
		s.pass(len(s.pending))
	}
	return s.kept
}

// lastLine returns the last line of a text that is not blank, cut to what fits in
// an error message.
func (t *text) lastLine() string {
	const most = 500
	data := bytes.TrimRight(t.data, " \t\r\n")
	line := string(data[bytes.LastIndexByte(data, '\n')+1:])
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}

// add puts another text behind t.
func (t *text) add(u text) {
	t.append(u.data)
	t.lost += u.lost
}
