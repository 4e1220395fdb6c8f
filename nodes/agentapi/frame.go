package agentapi

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Kinds of frames, in which what a program prints or is typed, a file, or what goes over
// a dialled connection, goes over one of the rig's connection's streams. A frame is its kind, the length of its payload as u32 little endian, the payload.
const (
	FrameStdout = 'o'
	FrameStderr = 'e'
	FrameExit   = 'x' // a JSON Exit; the last one of a program
	FrameStdin  = 'i' // typed on a terminal
	FrameSize   = 's' // a JSON Size: the terminal has another one
	FrameBytes  = 'b' // of a file, or of a dialled connection
	FrameEnd    = 'z' // a JSON Reply; the last one of a file, which without it is not whole, or of a connection's one way
)

// MaxFrame bounds a frame's payload, in bytes.
const MaxFrame = 64 << 10

const frameHeader = 5

// A FrameWriter writes frames. It is safe for concurrent use.
type FrameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// NewFrameWriter returns one that writes to w.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// WriteFrame writes one frame, of at most MaxFrame bytes.
func (f *FrameWriter) WriteFrame(kind byte, payload []byte) error {
	if len(payload) > MaxFrame {
		return fmt.Errorf("write a frame of %d bytes; the most is %d", len(payload), MaxFrame)
	}
	frame := make([]byte, frameHeader, frameHeader+len(payload))
	frame[0] = kind
	binary.LittleEndian.PutUint32(frame[1:], uint32(len(payload)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(append(frame, payload...))
	return err
}

// Stream returns a writer of which each Write is a frame of that kind, or several
// when it is a long one.
func (f *FrameWriter) Stream(kind byte) io.Writer { return frameStream{f, kind} }

type frameStream struct {
	to   *FrameWriter
	kind byte
}

func (s frameStream) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(len(b)-sent, MaxFrame)
		if err := s.to.WriteFrame(s.kind, b[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(b), nil
}

// ReadFrame reads one frame. io.EOF says that there was none; a frame that is cut
// off is io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(header[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("read a frame: %d bytes; the most is %d", n, MaxFrame)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return header[0], payload, nil
}
