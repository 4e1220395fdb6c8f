package remotefs

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"dsoftbus-rig/protocol/pk"
)

// FileInfo is what a STAT tells. It is an fs.FileInfo.
type FileInfo struct {
	path string
	size int64
	kind uint16
}

var _ fs.FileInfo = FileInfo{}

// Name returns the last element of the path.
func (i FileInfo) Name() string { return path.Base(i.path) }

// Size returns the size in bytes.
func (i FileInfo) Size() int64 { return i.size }

// Kind returns the kind as the server told it; pk.KindFile is the only one
// known.
func (i FileInfo) Kind() uint16 { return i.kind }

// Mode returns 0444: everybody may read and nobody write.
func (i FileInfo) Mode() fs.FileMode { return 0o444 }

// ModTime returns the zero time: the protocol has none.
func (i FileInfo) ModTime() time.Time { return time.Time{} }

// IsDir returns false: a directory is not found.
func (i FileInfo) IsDir() bool { return false }

// Sys returns nil.
func (i FileInfo) Sys() any { return nil }

// A File is an open file of a peer. Its content is that of the moment it was
// opened. ReadAt and Close may be called concurrently with everything; Read,
// Seek and WriteTo share the one position.
//
// An end of the content before Size is io.ErrUnexpectedEOF, never a shorter file.
//
// Its calls take no context: each is bounded by Options.Timeout without any
// answer, and ends at once when the Client is closed.
type File struct {
	c      *Client
	path   string
	handle uint32
	info   FileInfo
	closed atomic.Bool

	mu  sync.Mutex // guards off, and holds off others while it moves
	off int64
}

var (
	_ fs.File           = (*File)(nil)
	_ io.ReaderAt       = (*File)(nil)
	_ io.ReadSeekCloser = (*File)(nil)
	_ io.WriterTo       = (*File)(nil)
)

// Stat returns what STAT told when the file was opened; the error is always nil.
func (f *File) Stat() (fs.FileInfo, error) { return f.info, nil }

// Size returns the file's size in bytes.
func (f *File) Size() int64 { return f.info.size }

// ReadAt reads len(p) bytes from off on, with as many pipelined requests as
// that takes. Fewer bytes come with io.EOF at the end of the file, else with
// what went wrong.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: offset %d: %w", f.path, off, fs.ErrInvalid)
	}
	if f.closed.Load() {
		return 0, fmt.Errorf("read %s: %w", f.path, fs.ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	to := memory{p: p, base: off}
	end := off + int64(len(p))
	if end < off {
		end = math.MaxInt64
	}
	err := f.c.read(f, off, end, end, &to)
	return to.n, err
}

// memory is a sink that is the caller's own memory.
type memory struct {
	p    []byte
	base int64 // offset of p[0]
	n    int
}

func (m *memory) space(_ int, off int64, n int) []byte {
	at := off - m.base
	return m.p[at : at+int64(n) : at+int64(n)]
}

func (m *memory) take(data []byte) error {
	m.n += len(data)
	return nil
}

// Read reads from the position on. It fills p unless the file ends, and it
// does not read ahead: a large p (or WriteTo) is what makes it fast.
func (f *File) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil // the next Read says so
	}
	return n, err
}

// Seek sets the position. The end is where Size says.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = f.off
	case io.SeekEnd:
		base = f.info.size
	default:
		return 0, fmt.Errorf("seek in %s: whence %d: %w", f.path, whence, fs.ErrInvalid)
	}
	if f.closed.Load() {
		return 0, fmt.Errorf("seek in %s: %w", f.path, fs.ErrClosed)
	}
	to := base + offset
	if to < 0 { // also what overflows
		return 0, fmt.Errorf("seek in %s: position %d: %w", f.path, to, fs.ErrInvalid)
	}
	f.off = to
	return to, nil
}

// WriteTo writes everything from the position on to w while more is on its way.
// It needs Options.WindowBytes of memory, or what is left of the file.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return 0, fmt.Errorf("read %s: %w", f.path, fs.ErrClosed)
	}
	to := writer{w: w}
	err := f.c.read(f, f.off, f.info.size, math.MaxInt64, &to)
	f.off += to.n
	if err == io.EOF {
		err = nil
	}
	return to.n, err
}

// writer is a sink that keeps a piece of memory for each request on the way
// until it is written.
type writer struct {
	w      io.Writer
	n      int64
	pieces [][]byte // by slot
}

func (o *writer) space(slot int, _ int64, n int) []byte {
	for len(o.pieces) <= slot {
		o.pieces = append(o.pieces, nil)
	}
	if cap(o.pieces[slot]) < n {
		o.pieces[slot] = make([]byte, n)
	}
	return o.pieces[slot][:n]
}

func (o *writer) take(data []byte) error {
	n, err := o.w.Write(data)
	o.n += int64(n)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

// Close gives the handle back and waits for the answer. A second Close is
// fs.ErrClosed. When the session is gone, so is the handle; its end is what
// Close then returns.
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return fmt.Errorf("close %s: %w", f.path, fs.ErrClosed)
	}
	k := newCall(pk.Close)
	if err := f.c.start(context.Background(), k, pk.AppendClose(nil, f.handle)); err != nil {
		return err
	}
	f.c.flush()
	if err := f.c.wait(context.Background(), k); err != nil {
		return err
	}
	if k.response.Status != pk.OK {
		return &pk.StatusError{Op: pk.Close, Status: k.response.Status, Path: f.path}
	}
	return nil
}
