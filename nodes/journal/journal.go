// Package journal carries what the programs of one machine print, line by line,
// from the machine's agent to the rig: splitting a stream into lines, and one
// JSON object a line on the way between.
//
// It owns the form of an entry and the numbering of entries. It never opens the
// port it writes to and never looks into a line.
package journal

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// An Entry is one line a program printed.
type Entry struct {
	// Seq numbers the entries of one boot from 1, without gaps.
	Seq uint64 `json:"seq"`
	// Mono is the machine's CLOCK_MONOTONIC in nanoseconds when the agent read
	// the line.
	Mono time.Duration `json:"mono_ns"`
	// Unit is the program's name, Stream is "stdout" or "stderr".
	Unit   string `json:"unit"`
	Stream string `json:"stream"`
	// Text is the line without its ending. Raw replaces it when the line is not
	// UTF-8, which JSON text cannot carry.
	Text string `json:"text,omitempty"`
	Raw  []byte `json:"raw,omitempty"`
	// More says that the line was longer than MaxLine and goes on in the next
	// entry of this unit and stream.
	More bool `json:"more,omitempty"`
}

// Line returns the line's bytes as they were printed.
func (e Entry) Line() string {
	if e.Raw != nil {
		return string(e.Raw)
	}
	return e.Text
}

// Decode reads one entry from one line of a journal stream.
func Decode(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("decode journal entry: %w", err)
	}
	if e.Seq == 0 || e.Unit == "" {
		return Entry{}, fmt.Errorf("decode journal entry: no sequence number or unit in %.60q", line)
	}
	return e, nil
}

// A Writer numbers entries and writes each whole, in one Write of one line.
// It is safe for concurrent use; writers wait while the port is full.
type Writer struct {
	mono func() time.Duration

	mu  sync.Mutex
	w   io.Writer
	seq uint64
	err error
}

// NewWriter returns a writer to w. mono is the machine's monotonic clock.
func NewWriter(w io.Writer, mono func() time.Duration) *Writer {
	return &Writer{w: w, mono: mono}
}

// Line writes one entry. After a failed write the journal is broken for good
// and every later call returns the first error.
func (j *Writer) Line(unit, stream string, text []byte, more bool) error {
	e := Entry{Mono: j.mono(), Unit: unit, Stream: stream, More: more}
	if utf8.Valid(text) {
		e.Text = string(text)
	} else {
		e.Raw = text
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	e.Seq = j.seq + 1
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode journal entry of %s: %w", unit, err)
	}
	if _, err := j.w.Write(append(data, '\n')); err != nil {
		j.err = fmt.Errorf("write journal: %w", err)
		return j.err
	}
	j.seq++
	return nil
}

// Seq returns the number of the newest entry, 0 when there is none.
func (j *Writer) Seq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}
