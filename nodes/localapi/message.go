package localapi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind says what the body of a message is.
type Kind byte

// The kinds of messages. The last two never leave this package.
const (
	KindFrame   Kind = 0 // one PK frame, opaque here
	KindControl Kind = 1 // one JSON control object
	kindPooled  Kind = 2 // where in the pool a PK frame lies: slot u16, length u16
	kindRelease Kind = 3 // slots of the pool given back: count u16
)

// String names the kind as errors show it.
func (k Kind) String() string {
	switch k {
	case KindFrame:
		return "frame"
	case KindControl:
		return "control"
	case kindPooled:
		return "pooled frame"
	case kindRelease:
		return "release"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

const headerSize = 3

// MaxBody is the largest body in bytes: what the 16-bit length can say. The
// largest PK frame a session carries (65,515 bytes) fits.
const MaxBody = 1<<16 - 1

var (
	// ErrKind is a message whose kind byte is none of those known. The
	// two sides do not speak the same protocol; the connection must end.
	ErrKind = errors.New("unknown message kind")
	// ErrTooLong is a body of more than MaxBody bytes. Nothing was written.
	ErrTooLong = errors.New("message body too long")
)

// A Reader splits a byte stream into messages. It buffers one message of the
// largest size, allocated once, and hands out bodies from that buffer. It is
// for one goroutine at a time.
type Reader struct {
	br   *bufio.Reader
	last int // bytes of the message handed out by the latest Next
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{br: bufio.NewReaderSize(r, headerSize+MaxBody)}
}

// Next returns the next message. The body is valid until the following Next.
// The error is io.EOF at a clean end between two messages,
// io.ErrUnexpectedEOF inside a message, ErrKind for an unknown kind, and
// otherwise what the stream returned.
func (r *Reader) Next() (Kind, []byte, error) {
	// The discarded bytes are in the buffer, so this cannot fail.
	r.br.Discard(r.last)
	r.last = 0
	header, err := r.br.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(header) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	length, kind := int(binary.BigEndian.Uint16(header)), Kind(header[2])
	if kind > kindRelease {
		return 0, nil, fmt.Errorf("%w %d", ErrKind, byte(kind))
	}
	message, err := r.br.Peek(headerSize + length)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	r.last = headerSize + length
	return kind, message[headerSize : headerSize+length : headerSize+length], nil
}

// Ready reports whether a message for the caller is whole in memory, so that Next
// will not wait for the other side. Where it does, what was queued for it has to
// be flushed first. A release is for nobody but this package.
func (r *Reader) Ready() bool {
	rest, _ := r.br.Peek(r.br.Buffered()) // it is in the buffer, so this cannot fail
	for rest = rest[r.last:]; len(rest) >= headerSize; {
		n := headerSize + int(binary.BigEndian.Uint16(rest))
		if n > len(rest) {
			return false
		}
		if Kind(rest[2]) != kindRelease {
			return true
		}
		rest = rest[n:]
	}
	return false
}
