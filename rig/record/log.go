package record

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// eventLog is an events.jsonl that is being written. Every event goes to the file in one write as soon as it is appended, so a killed
// process loses nothing that Append has returned for.
type eventLog struct {
	path     string
	scenario string // given to events that name none
	start    time.Time
	sink     func(Event)

	mu     sync.Mutex
	f      *os.File // nil once closed
	seq    int64
	size   int64 // bytes of whole lines in the file
	failed error // of the first write that failed: nothing more is written
}

// createEventLog makes the file; it must not exist.
func createEventLog(path, scenario string, sink func(Event)) (*eventLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create event log: %w", explain(err))
	}
	return newEventLog(f, path, scenario, sink), nil
}

func newEventLog(f *os.File, path, scenario string, sink func(Event)) *eventLog {
	return &eventLog{path: path, scenario: scenario, start: time.Now(), sink: sink, f: f}
}

// append stamps e, hands it to the sink and writes it. The first write that fails is returned; from then on the file stays as it was
// (whole lines only) and append goes on stamping and passing on without an error, so that a full disk costs the record and not the run.
func (l *eventLog) append(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return fmt.Errorf("append %s event to %s: %w", e.Kind, l.path, os.ErrClosed)
	}

	if e.Time.IsZero() {
		now := time.Now()
		e.T = Seconds(now.Sub(l.start))
		e.Time = now.Round(0).UTC()
	}
	if e.Scenario == "" {
		e.Scenario = l.scenario
	}
	e.Seq = l.seq
	l.seq++
	e.Schema = 0
	if e.Seq == 0 {
		e.Schema = Schema
	}
	e = bounded(e)
	if l.sink != nil {
		l.sink(e)
	}
	if l.failed != nil {
		return nil
	}
	line, err := marshalLine(e)
	if err == nil {
		_, err = l.f.Write(line)
	}
	if err != nil {
		err = fmt.Errorf("append to %s: %w; the record ends here, the run goes on", l.path, explain(err))
		// A part of the line may be in the file. Taking it back leaves whole lines; where that fails too, readers cope with
		// an incomplete last line.
		if terr := l.f.Truncate(l.size); terr != nil {
			err = errors.Join(err, terr)
		}
		l.failed = err
		return err
	}
	l.size += int64(len(line))
	return nil
}

// lost returns the error of the first write that failed, nil when none did.
func (l *eventLog) lost() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// close ends the log; closing it again does nothing.
func (l *eventLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	if err != nil {
		return fmt.Errorf("close %s: %w", l.path, explain(err))
	}
	return nil
}

// explain adds the next step to the file system errors a user can do something about.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w (free some space, or choose another folder for runs)", err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w (the disk quota is used up: free some space, or choose another folder for runs)", err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (choose a folder for runs that you can write to)", err)
	}
	return err
}
