// Package console keeps what one node prints, line by line in one log, and lets
// any number of waiters wait for a line by event.
//
// It owns the log of a node and the waits on it. It never reads a stream itself,
// never parses what a line means and never writes files.
package console

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxLogBytes bounds the text one Log keeps in memory. Older lines are
// forgotten first; the files of the run still hold them. 64 MiB is some hours
// of a very talkative node and small next to the memory of one machine.
const MaxLogBytes = 64 << 20

// lineOverhead is what a Line costs beyond its text; it keeps a flood of empty
// lines within MaxLogBytes too.
const lineOverhead = 160

// ErrEnded is the error of a wait on a log that was ended without a cause.
var ErrEnded = errors.New("log ended")

// A Line is one line a node printed, whole, without its line ending.
type Line struct {
	Seq    int           // index in the node's log, from 0, without gaps
	Time   time.Time     // host's clock when the line had been read
	Guest  time.Duration // guest's monotonic clock when it was printed; 0 when unknown
	Boot   int           // which boot of the node Guest belongs to, from 1; 0 when unknown
	Unit   string        // who printed it: "kernel", or a program such as "dsoftbusd"
	Stream string        // "console", "stdout" or "stderr"
	Text   string        // as printed: any bytes; see Clean before showing it
}

// A Log holds the lines of one node in the order in which they arrived.
// All methods may be called concurrently.
type Log struct {
	maxBytes int

	mu      sync.Mutex
	lines   []Line
	first   int // Seq of lines[0]
	bytes   int
	changed chan struct{} // closed and replaced on each change, if somebody waits
	waiting bool
	ended   bool
	cause   error
	losses  []loss
	begun   map[string]bool // lines of which a part has come, by who prints them
}

// A loss is something a node printed that its log does not have, or not whole.
type loss struct {
	at  int // Seq of the line before which it belongs
	why string
}

// An IncompleteError is the error of a wait that did not see all that the node has
// printed from the line on that it began with: a line that matches may be among the
// rest.
type IncompleteError struct {
	Why string
	Err error // why the wait has ended
}

func (e *IncompleteError) Error() string { return e.Err.Error() + " (" + e.Why + ")" }
func (e *IncompleteError) Unwrap() error { return e.Err }

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{maxBytes: MaxLogBytes, changed: make(chan struct{})}
}

// Append adds a line, gives it its Seq, wakes every waiter, and returns the
// line as it was stored.
func (l *Log) Append(line Line) Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	line.Seq = l.first + len(l.lines)
	l.lines = append(l.lines, line)
	l.bytes += len(line.Text) + lineOverhead
	drop := 0
	for l.bytes > l.maxBytes && drop < len(l.lines)-1 {
		l.bytes -= len(l.lines[drop].Text) + lineOverhead
		drop++
	}
	l.lines = l.lines[drop:]
	l.first += drop
	l.wake()
	return line
}

// Lose notes that the log lacks something that the node has printed, or printed in
// another form.
func (l *Log) Lose(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losses = append(l.losses, loss{at: l.first + len(l.lines), why: why})
}

// Begun notes that a part of a long line has come, or, with false, that the line has
// been appended. who names what prints it.
func (l *Log) Begun(who string, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun == nil {
		l.begun = map[string]bool{}
	}
	l.begun[who] = yes
}

// End ends every wait, now and later, with cause, once the lines that are
// already in the log have been looked at. The first cause stays.
func (l *Log) End(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if cause == nil {
		cause = ErrEnded
	}
	l.ended, l.cause = true, cause
	l.wake()
}

// Resume takes an End back: the node was started again and goes on printing.
func (l *Log) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended, l.cause = false, nil
}

// wake tells the waiters that something changed; l.mu is held. The channel is
// only replaced when somebody listens, so an unwatched log allocates nothing.
func (l *Log) wake() {
	if l.waiting {
		close(l.changed)
		l.changed = make(chan struct{})
		l.waiting = false
	}
}

// Len returns the Seq the next line will get.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first + len(l.lines)
}

// Lines returns a copy of the lines with from <= Seq < to that are still in
// memory.
func (l *Log) Lines(from, to int) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	from = max(from-l.first, 0)
	to = min(to-l.first, len(l.lines))
	if from >= to {
		return nil
	}
	return append([]Line(nil), l.lines[from:to]...)
}

// Tail returns a copy of the last n lines.
func (l *Log) Tail(n int) []Line {
	end := l.Len()
	return l.Lines(end-n, end)
}

// Wait returns the first line with Seq >= from for which match is true,
// waiting for it by event. It ends with the cause of ctx, or, when the log has
// ended and no line matches, with the cause given to End. match is called once
// for each line, in order, without any lock held. When lines from there on are
// forgotten or lost, so that match has not seen them, the error is an
// *IncompleteError around that.
func (l *Log) Wait(ctx context.Context, from int, match func(Line) bool) (Line, error) {
	line, forgotten, err := l.wait(ctx, from, match, false)
	if err == nil {
		return line, nil
	}
	if why := l.lacks(from, forgotten); why != "" {
		err = &IncompleteError{Why: why, Err: err}
	}
	return line, err
}

// lacks says what of the lines from a number on a wait has not seen, "" for nothing.
func (l *Log) lacks(from, forgotten int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var why []string
	if forgotten > 0 {
		why = append(why, fmt.Sprintf("%d lines were not looked at: a node's log keeps the last %d MiB", forgotten, l.maxBytes>>20))
	}
	for _, loss := range l.losses {
		if loss.at >= from && !slices.Contains(why, loss.why) {
			why = append(why, loss.why)
		}
	}
	for _, who := range slices.Sorted(maps.Keys(l.begun)) {
		if l.begun[who] {
			why = append(why, "a long line of "+who+" has not come to its end")
		}
	}
	return strings.Join(why, "; ")
}

// Next returns the first line with Seq >= from, waiting for it by event. It goes on
// waiting when the log has ended: the node may be started again. It ends with the
// cause of ctx.
func (l *Log) Next(ctx context.Context, from int) (Line, error) {
	line, _, err := l.wait(ctx, from, func(Line) bool { return true }, true)
	return line, err
}

// wait is Wait; with beyond, the log's end does not end it. It returns how many lines
// were forgotten before match could see them.
func (l *Log) wait(ctx context.Context, from int, match func(Line) bool, beyond bool) (_ Line, forgotten int, _ error) {
	for {
		l.mu.Lock()
		forgotten += max(l.first-from, 0)
		from = max(from, l.first)
		fresh := l.lines[min(from-l.first, len(l.lines)):]
		var changed chan struct{}
		ended, cause := l.ended && !beyond, l.cause
		if len(fresh) == 0 && !ended {
			l.waiting = true
			changed = l.changed
		}
		l.mu.Unlock()

		// fresh aliases the log's array, which is only ever written behind it.
		for _, line := range fresh {
			if match(line) {
				return line, forgotten, nil
			}
		}
		from += len(fresh)
		if len(fresh) > 0 {
			continue
		}
		if ended {
			return Line{}, forgotten, cause
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, forgotten, context.Cause(ctx)
		}
	}
}
