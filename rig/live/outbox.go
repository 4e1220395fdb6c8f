package live

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"dsoftbus-rig/rig/record"
)

// maxQueued bounds what waits for a reader of events, in bytes: more than all that one step tells.
const maxQueued = 16 << 20

// An outbox sends events, and never makes the one wait who tells them: that is the scenario itself. What a reader does not take in time is left
// out, and it is told so. A goroutine of its own does the writing, until finish.
type outbox struct {
	w    io.Writer
	most int // bytes that may wait

	mu     sync.Mutex
	queue  [][]byte
	bytes  int
	lost   int // events left out since the last that was queued
	closed bool
	err    error
	wake   chan struct{} // has room for one
	done   chan struct{}
}

func newOutbox(w io.Writer, most int) *outbox {
	o := &outbox{w: w, most: most, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go o.write()
	return o
}

// event queues an event.
func (o *outbox) event(e record.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.err != nil {
		return
	}
	if o.bytes >= o.most {
		o.lost++
		return
	}
	o.confess()
	o.put(e)
}

// confess queues what was left out; o.mu is held.
func (o *outbox) confess() {
	if o.lost > 0 {
		o.put(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("%d events were left out here: they were not read in time", o.lost)})
		o.lost = 0
	}
}

// put queues an event within the bounds of the record; o.mu is held.
func (o *outbox) put(e record.Event) {
	var b bytes.Buffer
	err := record.WriteEvent(&b, e)
	var line []byte
	if err == nil {
		line, err = marshalLine(item{Event: b.Bytes()})
	}
	if err != nil {
		o.lost++ // a number that is none in JSON, say: the others are worth having
		return
	}
	o.add(line)
}

func (o *outbox) add(line []byte) {
	o.queue = append(o.queue, line)
	o.bytes += len(line)
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// finish sends the end of the stream and returns when all is written, or cannot be.
func (o *outbox) finish(end []byte) error {
	o.mu.Lock()
	o.confess()
	o.add(end)
	o.closed = true
	o.mu.Unlock()
	<-o.done
	return o.err
}

func (o *outbox) write() {
	defer close(o.done)
	for range o.wake {
		o.mu.Lock()
		queue, closed := o.queue, o.closed
		o.queue = nil
		o.mu.Unlock()
		for _, line := range queue {
			if o.err == nil {
				_, err := o.w.Write(line)
				o.mu.Lock()
				o.err = err
				o.mu.Unlock()
			}
			o.mu.Lock()
			o.bytes -= len(line)
			o.mu.Unlock()
		}
		if closed {
			return
		}
	}
}
