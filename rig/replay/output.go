package replay

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/recording"
)

// A Line is one that the machine printed.
type Line struct {
	Stream string        // "console" or "journal"
	Number int           // in its stream, from 1
	Unit   string        // of a journal's: the program
	Guest  time.Duration // of a journal's: the machine's monotonic clock
	Text   string        // as printed: any bytes
}

// String shows a line as the rig shows those of nodes, safe for a terminal.
func (l Line) String() string {
	text := console.Clean(l.Text)
	if l.Stream == recording.ConsoleFile {
		return text
	}
	return fmt.Sprintf("%9.3f [%s] %s", l.Guest.Seconds(), console.Clean(l.Unit), text)
}

// newLine reads a line of a stream as it stands in its file.
func newLine(stream string, number int, raw []byte) Line {
	l := Line{Stream: stream, Number: number, Text: strings.TrimRight(string(raw), "\r\n")}
	if stream == recording.JournalFile {
		if e, err := journal.Decode(raw); err == nil {
			l.Unit, l.Guest, l.Text = e.Unit, e.Mono, e.Line()
		}
	}
	return l
}

// A DifferenceError says where a replay printed something else than the machine did.
type DifferenceError struct {
	Stream   string
	Number   int    // of the line, from 1
	Recorded string // "" with NoLine: nothing more was recorded
	Replayed string
	Missing  bool   // the replay has ended, and the line did not come
	Extra    bool   // the recording has no such line
	Before   []Line // of the stream, those before it
}

func (e *DifferenceError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the replay differs in line %d of the %s\n", e.Number, e.Stream)
	for _, l := range e.Before {
		fmt.Fprintf(&b, "           %s\n", l)
	}
	switch {
	case e.Extra:
		fmt.Fprintf(&b, "recorded:  nothing more\n")
	default:
		fmt.Fprintf(&b, "recorded:  %s\n", console.Clean(e.Recorded))
	}
	switch {
	case e.Missing && e.Replayed == "":
		fmt.Fprintf(&b, "replayed:  nothing more")
	default:
		fmt.Fprintf(&b, "replayed:  %s", console.Clean(e.Replayed))
	}
	return b.String()
}

// beforeLines is how many lines before a difference are shown.
const beforeLines = 3

// A stream is what one device of the machine prints.
type stream struct {
	name  string
	want  []byte // all that was recorded
	start int    // of want: where the line that is coming begins
	part  []byte // of the line that is coming: what has come
	lines int    // how many have come before it
	told  int    // how many of them were handed on
	read  int64  // bytes of the file
}

// at is how much of want has come.
func (s *stream) at() int { return s.start + len(s.part) }

// expected returns the line of want that begins at start, with its ending.
func (s *stream) expected() []byte {
	rest := s.want[min(s.start, len(s.want)):]
	if end := bytes.IndexByte(rest, '\n'); end >= 0 {
		return rest[:end+1]
	}
	return rest
}

// An output is what a replay prints, and how that compares.
type output struct {
	tell func(Line) // one at a time

	mu      sync.Mutex
	streams []*stream
	differs *DifferenceError
	mute    bool // nothing is compared or handed on
	last    []Line
	changed func() // called for each change, with the lock held
}

// shownLast is how many lines a place is shown by.
const shownLast = 5

func (o *output) feed(s *stream, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.changed()
	s.read += int64(len(data))
	for len(data) > 0 && !o.mute && o.differs == nil {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			s.part = append(s.part, data...)
			return
		}
		s.part = append(s.part, data[:end+1]...)
		data = data[end+1:]
		if want := s.expected(); !bytes.Equal(want, s.part) {
			o.differs = s.difference(want, s.part)
			return
		}
		s.start += len(s.part)
		s.lines++
		line := newLine(s.name, s.lines, s.part)
		s.part = s.part[:0]
		if s.lines > s.told {
			s.told = s.lines
			o.last = append(o.last, line)
			o.last = o.last[max(0, len(o.last)-shownLast):]
			if o.tell != nil {
				o.tell(line)
			}
		}
	}
}

func (s *stream) difference(want, got []byte) *DifferenceError {
	d := &DifferenceError{
		Stream: s.name, Number: s.lines + 1, Extra: len(want) == 0,
		Recorded: strings.TrimRight(string(want), "\r\n"), Replayed: strings.TrimRight(string(got), "\r\n"),
	}
	before := bytes.SplitAfter(s.want[:s.start], []byte("\n"))
	before = before[:len(before)-1] // it is what is behind the last newline: nothing
	from := max(0, len(before)-beforeLines)
	for i, raw := range before[from:] {
		d.Before = append(d.Before, newLine(s.name, from+i+1, raw))
	}
	return d
}

// end compares what the machine printed after its last newline, once it has ended, and what it should have printed.
func (o *output) end() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.differs != nil {
		return o.differs
	}
	for _, s := range o.streams {
		if want := s.expected(); !bytes.Equal(want, s.part) {
			o.differs = s.difference(want, s.part)
			o.differs.Missing = len(s.part) < len(want)
			return o.differs
		}
		if len(s.part) > 0 && s.lines == s.told {
			s.told++
			if o.tell != nil {
				o.tell(newLine(s.name, s.told, s.part))
			}
		}
	}
	return nil
}

// difference returns what was found different, nil for nothing.
func (o *output) difference() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.differs == nil {
		return nil
	}
	return o.differs
}

// count is how many lines have come.
func (o *output) count() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		n += s.told
	}
	return n
}

// where returns how much of each stream has come.
func (o *output) where() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []int
	for _, s := range o.streams {
		all = append(all, s.at())
	}
	return all
}

// rewind says that the machine has gone back, or forth, to where that much had come. With fresh the files begin anew.
func (o *output) rewind(where []int, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, s := range o.streams {
		at := where[i]
		s.start = bytes.LastIndexByte(s.want[:at], '\n') + 1
		s.part = append(s.part[:0], s.want[s.start:at]...)
		s.lines = bytes.Count(s.want[:s.start], []byte("\n"))
		if fresh {
			s.read = 0
		}
	}
}

// lastLines returns the lines that came last.
func (o *output) lastLines() []Line {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []Line
	have := map[string]int{}
	for _, s := range o.streams {
		have[s.name] = s.lines
	}
	for _, l := range o.last {
		if l.Number <= have[l.Stream] { // the machine may have gone back since
			all = append(all, l)
		}
	}
	return all
}
