package remotefs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"dsoftbus-rig/nodes/localapi"
)

// ErrReplaced is a file whose content is another one than before the session was
// lost. What was read of it must not be continued.
var ErrReplaced = errors.New("the file was replaced while the session was away")

// dialPause is between two attempts to reach a dsoftbusd that is away: it may be
// starting again.
const dialPause = 100 * time.Millisecond

// A Reader reads whole files of one peer, and goes on when the session was lost
// while it did so: Options.Retries times in its life it waits for a new session,
// Options.Wait at most, and asks again. It does so for what may be asked twice,
// which is Stat and Copy. It is for one goroutine at a time; Close may come from
// anywhere.
type Reader struct {
	socket, peer string
	opts         Options
	left         int // retries

	mu     sync.Mutex
	c      *Client
	closed bool
}

// OpenReader dials like Dial.
func OpenReader(ctx context.Context, socket, peer string, opts Options) (*Reader, error) {
	c, err := Dial(ctx, socket, peer, opts)
	if err != nil {
		return nil, err
	}
	return &Reader{socket: socket, peer: peer, opts: c.opts, left: opts.Retries, c: c}, nil
}

// Close ends the way to the peer and whatever is going on.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.c.Close()
}

func (r *Reader) client() *Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.c
}

// Stat asks for a file's size.
func (r *Reader) Stat(ctx context.Context, path string) (info FileInfo, err error) {
	err = r.retry(ctx, func(c *Client) error {
		info, err = c.Stat(ctx, path)
		return err
	})
	return info, err
}

// Copy writes a whole file to w. What w gets is the content of one file: after a
// new session the file has to have the same size, and all that was written is read
// again and compared, by its SHA-256, before anything further is written. Otherwise
// the error is ErrReplaced. On any error w has the beginning of the file.
func (r *Reader) Copy(ctx context.Context, path string, w io.Writer) (int64, error) {
	if r.left == 0 {
		return copyOnce(ctx, r.client(), path, w) // so nothing needs a digest
	}
	to := &continued{w: w, digest: sha256.New(), size: -1}
	err := r.retry(ctx, func(c *Client) error { return to.from(ctx, c, path) })
	return to.n, err
}

func copyOnce(ctx context.Context, c *Client, path string, w io.Writer) (int64, error) {
	f, err := c.Open(ctx, path)
	if err != nil {
		return 0, err
	}
	n, err := f.WriteTo(w)
	if err == nil {
		err = f.Close()
	}
	return n, err
}

// retry calls f, and again over a new session as long as one was lost in it and
// there are retries left.
func (r *Reader) retry(ctx context.Context, f func(c *Client) error) error {
	for {
		err := f(r.client())
		if err == nil || r.left == 0 || !lost(err) {
			return err
		}
		r.left--
		if again := r.redial(ctx); again != nil {
			return fmt.Errorf("%w; and then: %w", err, again)
		}
	}
}

// lost says whether an error is the end of a session that may come back. A peer
// that breaks the protocol or does not answer would do so again.
func lost(err error) bool {
	if _, ours := errors.AsType[*SessionError](err); !ours {
		return false
	}
	// The second is a dsoftbusd that has ended.
	return errors.Is(err, &localapi.Error{Code: localapi.CodeSessionLost}) || errors.Is(err, io.ErrUnexpectedEOF)
}

// redial waits for a new session, and for a dsoftbusd to ask for it.
func (r *Reader) redial(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.opts.Wait+dialPause,
		fmt.Errorf("no session with %s within %v: %w", r.peer, r.opts.Wait, os.ErrDeadlineExceeded))
	defer cancel()
	for {
		c, err := Dial(ctx, r.socket, r.peer, r.opts)
		if err == nil {
			return r.take(c)
		}
		if _, told := errors.AsType[*localapi.Error](err); told {
			return err
		}
		select {
		case <-time.After(dialPause):
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

// take makes c the client, unless Close was faster.
func (r *Reader) take(c *Client) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.c.Close()
	r.c = c
	if r.closed {
		c.Close() // so what is asked of it fails
	}
	return nil
}

// continued writes a file that may come in several parts, each from the beginning.
type continued struct {
	w      io.Writer
	n      int64     // written to w
	digest hash.Hash // of that
	size   int64     // of the file; -1: not known yet

	again  int64     // of this part: bytes that w has already
	repeat hash.Hash // of those
}

// from reads the file over one session.
func (t *continued) from(ctx context.Context, c *Client, path string) error {
	f, err := c.Open(ctx, path)
	if err != nil {
		return err
	}
	if t.size >= 0 && f.Size() != t.size {
		f.Close()
		return fmt.Errorf("read %s: %d bytes instead of %d: %w", path, f.Size(), t.size, ErrReplaced)
	}
	t.size, t.again, t.repeat = f.Size(), 0, sha256.New()
	if _, err := f.WriteTo(t); err != nil {
		if errors.Is(err, ErrReplaced) {
			f.Close()
			return fmt.Errorf("read %s: %w", path, err)
		}
		return err
	}
	if t.again < t.n {
		return fmt.Errorf("read %s: %d bytes, %d were read before: %w", path, t.again, t.n, ErrReplaced)
	}
	if err := f.Close(); err != nil && !lost(err) { // all of it is here
		return err
	}
	return nil
}

// Write implements io.Writer.
func (t *continued) Write(p []byte) (int, error) {
	rest := p
	if t.again < t.n {
		known := min(int64(len(p)), t.n-t.again)
		t.repeat.Write(p[:known])
		t.again += known
		rest = p[known:]
		if t.again == t.n && !bytes.Equal(t.repeat.Sum(nil), t.digest.Sum(nil)) {
			return 0, fmt.Errorf("its first %d bytes are others: %w", t.n, ErrReplaced)
		}
	}
	n, err := t.w.Write(rest)
	t.digest.Write(rest[:n])
	t.n += int64(n)
	t.again += int64(n)
	return len(p) - len(rest) + n, err
}
