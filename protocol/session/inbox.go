package session

import "io"

// inboxSize holds some records of 32 KiB, so that a busy session takes in several with one read, and in half of it the
// largest one: records are decrypted where they were read.
const inboxSize = 256 << 10

// inbox is what was read from a connection and not yet handed out. What peek gave stays untouched until the next peek that
// has to read.
type inbox struct {
	r   io.Reader
	buf []byte
	at  int // of the first byte not yet skipped
	end int // of what was read
}

// newInbox begins with what somebody else has read from r already.
func newInbox(r io.Reader, read []byte) inbox {
	in := inbox{r: r, buf: make([]byte, inboxSize)}
	in.end = copy(in.buf, read)
	return in
}

// buffered is what is there without reading.
func (in *inbox) buffered() []byte { return in.buf[in.at:in.end] }

// peek gives the next n bytes, at most half of inboxSize, or fewer with the reader's error. It may be called again after it.
func (in *inbox) peek(n int) ([]byte, error) {
	for empty := 0; in.end-in.at < n; {
		// Moved only when half is used up: what is left then is at most the beginning of one record, and what is free is
		// worth a read.
		if in.at == in.end || in.at >= len(in.buf)/2 {
			in.at, in.end = 0, copy(in.buf, in.buffered())
		}
		got, err := in.r.Read(in.buf[in.end:])
		in.end += got
		if in.end-in.at >= n {
			break // an error comes again with the next read
		}
		if err != nil {
			return in.buffered(), err
		}
		if got > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return in.buffered(), io.ErrNoProgress
		}
	}
	return in.buf[in.at : in.at+n], nil
}

// skip hands out n bytes that peek gave.
func (in *inbox) skip(n int) { in.at += n }
