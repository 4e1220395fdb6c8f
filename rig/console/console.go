// Package console keeps what one node prints, line by line in one log, and lets
// any number of waiters wait for a line by event.
//
// It owns the log of a node and the waits on it. It never reads a stream itself,
// never parses what a line means and never writes files.
package console

import (
	"context"
	"errors"
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
}

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
// for each line, in order, without any lock held.
func (l *Log) Wait(ctx context.Context, from int, match func(Line) bool) (Line, error) {
	return l.wait(ctx, from, match, false)
}

// Next returns the first line with Seq >= from, waiting for it by event. It goes on
// waiting when the log has ended: the node may be started again. It ends with the
// cause of ctx.
func (l *Log) Next(ctx context.Context, from int) (Line, error) {
	return l.wait(ctx, from, func(Line) bool { return true }, true)
}

// wait is Wait; with beyond, the log's end does not end it.
func (l *Log) wait(ctx context.Context, from int, match func(Line) bool, beyond bool) (Line, error) {
	for {
		l.mu.Lock()
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
				return line, nil
			}
		}
		from += len(fresh)
		if len(fresh) > 0 {
			continue
		}
		if ended {
			return Line{}, cause
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, context.Cause(ctx)
		}
	}
}
