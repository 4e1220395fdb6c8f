package remotefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/pk"
)

// A SessionError is the end of the way to a peer: every pending call and every
// later one of that Client returns it.
type SessionError struct {
	Peer string
	Err  error
}

// Error names the peer.
func (e *SessionError) Error() string { return "session with " + e.Peer + ": " + e.Err.Error() }

// Unwrap returns the cause: a *localapi.Error when dsoftbusd told it,
// os.ErrDeadlineExceeded after Options.Timeout, fs.ErrClosed after Close,
// ErrProtocol, or what the connection to dsoftbusd returned.
func (e *SessionError) Unwrap() error { return e.Err }

// ErrProtocol is an answer that does not fit its request. What follows cannot
// be told apart any more, so the session is given up.
var ErrProtocol = errors.New("the answer does not fit the request")

// A Client is the way to the package files of one peer. It is safe for
// concurrent use.
type Client struct {
	peer    string
	opts    Options
	conn    *localapi.Conn
	chunk   atomic.Int64   // bytes of one READ; shrinks when a server wants it shorter
	slots   chan struct{}  // one element for each request on the way
	dead    chan struct{}  // closed when err is set
	reader  sync.WaitGroup // the goroutine that receives
	streams sync.Pool      // of *stream, see there
	closing atomic.Bool    // Close was called

	mu      sync.Mutex // guards the following, and keeps pending in the order of the wire
	pending queue
	sent    uint64
	err     error
}

// Dial asks the dsoftbusd at socket for the way to peer. A refusal is a
// *localapi.Error by errors.As. ctx bounds the dialling alone; the Client lives
// until Close or the end of the session.
func Dial(ctx context.Context, socket, peer string, opts Options) (*Client, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("remote packages of %s: %w", peer, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, opts.Wait+opts.Timeout,
		fmt.Errorf("dsoftbusd gave no answer: %w", os.ErrDeadlineExceeded))
	defer cancel()
	conn, err := localapi.OpenPeer(ctx, socket, peer, opts.Wait)
	if err != nil {
		return nil, err
	}
	return newClient(conn, peer, opts), nil
}

// newClient takes over a connection that is open to peer.
func newClient(conn *localapi.Conn, peer string, opts Options) *Client {
	c := &Client{
		peer:    peer,
		opts:    opts,
		conn:    conn,
		slots:   make(chan struct{}, opts.Window),
		dead:    make(chan struct{}),
		pending: newQueue(opts.Window),
	}
	conn.SetWriteTimeout(opts.Timeout)
	c.chunk.Store(int64(opts.Chunk))
	c.streams.New = func() any { return newStream(c) }
	c.reader.Go(c.receive)
	return c
}

// Close ends the way to the peer, and with it every pending call and open file.
func (c *Client) Close() error {
	// Before end, which has to wait for a call that is stuck writing.
	c.closing.Store(true)
	c.conn.Close()
	c.end(fs.ErrClosed)
	c.reader.Wait()
	return nil
}

// Peer returns the peer's device id.
func (c *Client) Peer() string { return c.peer }

// Requests returns how many requests have been sent.
func (c *Client) Requests() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// Stat asks for a file's size.
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) {
	k := newCall(pk.Stat)
	if err := c.start(ctx, k, pk.AppendStat(nil, path)); err != nil {
		return FileInfo{}, err
	}
	c.flush()
	if err := c.wait(ctx, k); err != nil {
		return FileInfo{}, err
	}
	return c.info(k, path)
}

// Open opens a file for reading. STAT and OPEN travel together; a package that
// is replaced in that very instant can make the size another one than that of
// the content.
func (c *Client) Open(ctx context.Context, path string) (*File, error) {
	stat, open := newCall(pk.Stat), newCall(pk.Open)
	if err := c.start(ctx, stat, pk.AppendStat(nil, path)); err != nil {
		return nil, err
	}
	if err := c.start(ctx, open, pk.AppendOpen(nil, path)); err != nil {
		c.abandon(stat)
		return nil, err
	}
	c.flush()
	err := c.wait(ctx, stat)
	if openErr := c.wait(ctx, open); err == nil {
		err = openErr
	}
	if err != nil {
		c.discard(open)
		return nil, err
	}
	if open.response.Status != pk.OK {
		return nil, &pk.StatusError{Op: pk.Open, Status: open.response.Status, Path: path}
	}
	info, err := c.info(stat, path)
	if err != nil {
		c.discard(open)
		return nil, err
	}
	return &File{c: c, path: path, handle: open.response.Handle, info: info}, nil
}

// Do sends any frame of at most 65,515 bytes and returns the answer, whatever
// either holds. Handles that it opens or closes are the caller's to keep.
func (c *Client) Do(ctx context.Context, frame []byte) ([]byte, error) {
	if len(frame) > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes, a session carries at most %d", len(frame), maxFrame)
	}
	k := newCall(0)
	k.raw = true
	if err := c.start(ctx, k, frame); err != nil {
		return nil, err
	}
	c.flush()
	if err := c.wait(ctx, k); err != nil {
		return nil, err
	}
	return k.frame, nil
}

// info turns an answered STAT into a FileInfo.
func (c *Client) info(k *call, path string) (FileInfo, error) {
	r := k.response
	if r.Status != pk.OK {
		return FileInfo{}, &pk.StatusError{Op: pk.Stat, Status: r.Status, Path: path}
	}
	if r.Size > math.MaxInt64 {
		return FileInfo{}, fmt.Errorf("stat %s: a size of %d bytes: %w", path, r.Size, ErrProtocol)
	}
	return FileInfo{path: path, size: int64(r.Size), kind: r.Kind}, nil
}

// discard gives back the handle of an answered OPEN that nobody will use. It
// does not wait for the answer.
func (c *Client) discard(open *call) {
	if open.response.Op != pk.Open || open.response.Status != pk.OK {
		return
	}
	k := newCall(pk.Close)
	k.abandoned = true
	if c.start(context.Background(), k, pk.AppendClose(nil, open.response.Handle)) == nil {
		c.flush()
	}
}

// acquire takes a slot for one request; it flushes before it waits, so that
// what it waits for can be answered. With ctx ended it takes none, so that no
// request of a caller that has given up is sent.
func (c *Client) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("session with %s: %w", c.peer, context.Cause(ctx))
	}
	if c.tryAcquire() {
		return nil
	}
	c.flush()
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("session with %s: %w", c.peer, context.Cause(ctx))
	case <-c.dead:
		return c.cause()
	}
}

func (c *Client) tryAcquire() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// start puts a request on its way; flush has to follow. Only if it succeeds
// will the call be done.
func (c *Client) start(ctx context.Context, k *call, frame []byte) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	return c.post(k, frame)
}

// post is start with the slot taken.
func (c *Client) post(k *call, frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.pending.len() == 0 {
		// The receiver may be waiting already, with no deadline.
		c.conn.SetReadDeadline(time.Now().Add(c.opts.Timeout))
	}
	c.pending.push(k)
	c.sent++
	if err := c.conn.Queue(localapi.KindFrame, frame); err != nil && !hungUp(err) {
		c.endLocked(c.describe(err)) // and with it k
	}
	return nil
}

// hungUp reports whether a write failed because dsoftbusd closed the
// connection. Then the receiver is about to find out too, and why: dsoftbusd's
// last message may still be on the way to it, and is the better reason.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// flush hands what was started to dsoftbusd. A failure ends every pending call.
func (c *Client) flush() {
	if err := c.conn.Flush(); err != nil && !hungUp(err) {
		c.end(c.describe(err))
	}
}

// wait waits for a started call. With ctx ended it gives the call up.
func (c *Client) wait(ctx context.Context, k *call) error {
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
	}
	if c.abandon(k) {
		return fmt.Errorf("session with %s: %w", c.peer, context.Cause(ctx))
	}
	<-k.done // its answer is being delivered
	return k.err
}

// abandon leaves a pending call's answer to the receiver, and reports whether
// it was still pending.
func (c *Client) abandon(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.pending {
		return false
	}
	k.abandoned = true
	return true
}

// cause returns why the client is dead.
func (c *Client) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end makes err the client's end, unless it has one already.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(err)
}

func (c *Client) endLocked(err error) {
	if c.err != nil {
		return
	}
	if c.closing.Load() {
		err = fs.ErrClosed // rather than what closing the connection looked like
	}
	c.err = &SessionError{Peer: c.peer, Err: err}
	close(c.dead)
	c.conn.Close() // ends the receiver
	for c.pending.len() > 0 {
		k := c.pending.pop()
		k.err = c.err
		k.finish()
	}
}

// describe says what an error of the connection to dsoftbusd means.
func (c *Client) describe(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %v: %w", c.opts.Timeout, os.ErrDeadlineExceeded)
	case err == io.EOF, hungUp(err):
		return fmt.Errorf("dsoftbusd closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("connection to dsoftbusd: %w", err)
}

// receive delivers answers until the client's end. It is the only goroutine of
// a Client.
func (c *Client) receive() {
	defer c.conn.EndRecv()
	for {
		if !c.conn.Ready() {
			c.await()
		}
		kind, body, err := c.conn.Recv()
		if err != nil {
			c.end(c.describe(err))
			return
		}
		if kind == localapi.KindControl {
			c.end(controlCause(body))
			return
		}
		if err := c.deliver(body); err != nil {
			c.end(err)
			return
		}
	}
}

// await gives the oldest pending call its full time, before the receiver waits
// for its answer.
func (c *Client) await() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var deadline time.Time
	if c.pending.len() > 0 {
		deadline = time.Now().Add(c.opts.Timeout)
	}
	c.conn.SetReadDeadline(deadline)
}

// controlCause is why dsoftbusd ended an open connection.
func controlCause(body []byte) error {
	reply, err := localapi.ParseReply(body)
	if err == nil {
		err = reply.Err()
	}
	if err == nil {
		err = fmt.Errorf("a control message among answers: %w", ErrProtocol)
	}
	return err
}

// deliver gives an answer to the oldest pending call.
func (c *Client) deliver(frame []byte) error {
	k := c.oldest()
	if k == nil {
		return fmt.Errorf("%d bytes that nobody asked for: %w", len(frame), ErrProtocol)
	}
	if err := k.answer(frame); err != nil {
		// The call has left the queue, so it must be ended here.
		c.end(err)
		k.err = c.cause()
		k.finish()
		return err
	}
	if k.abandoned && k.response.Op == pk.Open && k.response.Status == pk.OK {
		// Nobody will close this handle. The CLOSE takes over the slot.
		closing := newCall(pk.Close)
		closing.abandoned = true
		if err := c.post(closing, pk.AppendClose(nil, k.response.Handle)); err == nil {
			c.flush()
		}
		return nil
	}
	<-c.slots
	k.finish()
	return nil
}

// oldest takes the oldest call out of the queue; nil if there is none.
func (c *Client) oldest() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending.len() == 0 {
		return nil
	}
	return c.pending.pop()
}
