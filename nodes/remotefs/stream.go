package remotefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"dsoftbus-rig/protocol/pk"
)

// A stream reads one handle from one offset on, with several READs on the way.
// Streams are kept for reuse: each is a few KiB that a small read would
// otherwise throw away.
type stream struct {
	c     *Client
	calls []call     // used in turn, so call i is free again when i+window is asked
	done  chan *call // of all of them; answers come in the order of the requests
	frame []byte     // of the request being sent
}

func newStream(c *Client) *stream {
	s := &stream{c: c, calls: make([]call, c.opts.Window), done: make(chan *call, c.opts.Window)}
	for i := range s.calls {
		s.calls[i] = call{op: pk.Read, done: s.done}
	}
	return s
}

// A sink is where a stream puts what it reads.
type sink interface {
	// space returns the n bytes of memory for what is at off; slot is a number
	// below the window that no other request on the way has.
	space(slot int, off int64, n int) []byte
	// take gets each piece that has arrived, in order.
	take(data []byte) error
}

// errShorter restarts a stream with shorter chunks.
var errShorter = errors.New("the server wants shorter reads")

// read reads from off to end, or to the end of the file, which is io.EOF. Up to
// expected, the size of the file as far as known, it asks ahead; beyond for one
// chunk at a time. When it returns, nothing of it is on the way any more.
func (c *Client) read(f *File, off, expected, end int64, to sink) error {
	s := c.streams.Get().(*stream)
	defer c.streams.Put(s)
	for {
		var err error
		off, err = s.run(f, off, expected, end, int(c.chunk.Load()), to)
		if err != errShorter {
			return err
		}
	}
}

// run is read with one length of chunks, and returns how far it came.
func (s *stream) run(f *File, off, expected, end int64, chunk int, to sink) (int64, error) {
	window := min(len(s.calls), max(1, s.c.opts.WindowBytes/chunk))
	end = min(end, math.MaxUint32) // no file reaches further, no offset points there
	asked, next, onTheWay := off, 0, 0
	var stop error
	for {
		// Asking again when a quarter of the window was answered, rather than
		// at every answer, makes few writes, and the server always has more to
		// do: at half, it was seen to run out of requests.
		if stop == nil && onTheWay <= window*3/4 {
			for onTheWay < window && asked < end && (asked <= expected || onTheWay == 0) {
				n := int(min(int64(chunk), end-asked))
				sent, err := s.ask(f, next, asked, to.space(next, asked, n), onTheWay > 0)
				if err != nil {
					stop = err
				}
				if !sent {
					break
				}
				asked += int64(n)
				next = (next + 1) % window
				onTheWay++
			}
			s.c.flush()
		}
		if onTheWay == 0 {
			if stop == nil && asked >= math.MaxUint32 {
				stop = io.EOF
			}
			return off, stop
		}
		k := <-s.done
		onTheWay--
		if stop == nil {
			stop = s.accept(f, k, off, chunk, to)
			off += int64(k.n)
		}
	}
}

// ask sends one READ; it does not wait for a free slot when try is set.
func (s *stream) ask(f *File, slot int, off int64, dst []byte, try bool) (sent bool, err error) {
	if try {
		if !s.c.tryAcquire() {
			return false, nil
		}
	} else if err := s.c.acquire(context.Background()); err != nil {
		return false, err
	}
	k := &s.calls[slot]
	k.dst, k.n, k.err, k.response = dst, 0, nil, pk.Response{}
	s.frame = pk.AppendRead(s.frame[:0], f.handle, uint32(off), uint16(len(dst)))
	if err := s.c.post(k, s.frame); err != nil {
		return false, err
	}
	return true, nil
}

// accept hands the answer for off on, and says whether and why to stop.
func (s *stream) accept(f *File, k *call, off int64, chunk int, to sink) error {
	switch status := k.response.Status; {
	case k.err != nil:
		return k.err
	case status == pk.Oversized && chunk > pk.FallbackRead:
		s.c.chunk.CompareAndSwap(int64(chunk), pk.FallbackRead)
		return errShorter
	case status != pk.OK:
		return &pk.StatusError{Op: pk.Read, Status: status, Path: f.path}
	}
	if err := to.take(k.dst[:k.n]); err != nil {
		return err
	}
	if k.n == len(k.dst) {
		return nil
	}
	// A short answer is the end of the file, and only that (contract section
	// 3). Before the size that was told it must not pass for the whole file.
	if ended := off + int64(k.n); ended < f.info.size {
		return fmt.Errorf("read %s: ended at %d of %d bytes: %w", f.path, ended, f.info.size, io.ErrUnexpectedEOF)
	}
	return io.EOF
}
