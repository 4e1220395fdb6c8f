package localapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/nodes/quickconn"
)

// DefaultSocket is where dsoftbusd listens.
const DefaultSocket = "/run/dsoftbusd.sock"

// A Conn is one connection, either side. One goroutine may receive while any
// number send; a message is never split by another one.
type Conn struct {
	raw   net.Conn
	quick net.Conn // raw, for what is read and written all the time
	in    *Reader

	mu       sync.Mutex // orders whole messages in out
	out      *bufio.Writer
	patience time.Duration // of each write to raw; 0: as SetWriteDeadline says

	lends atomic.Pointer[pool] // dsoftbusd's side: frames are put there; nil: none

	// The program's side: frames are found there. For the goroutine that receives.
	borrows     *pool
	borrowed    bool              // the latest body lies there
	returned    atomic.Int32      // slots to be given back with the next message
	descriptors *descriptorReader // by which the pool comes
}

// NewConn takes over raw, an accepted connection.
func NewConn(raw net.Conn) *Conn {
	// Room for any message: an answer of 32 KiB is one write, not two.
	return newConn(raw, headerSize+MaxBody)
}

func newConn(raw net.Conn, outSize int) *Conn {
	quick := quickconn.New(raw)
	c := &Conn{raw: raw, in: NewReader(quick), quick: quick}
	c.out = bufio.NewWriterSize((*patientWriter)(c), outSize)
	return c
}

// patientWriter is a Conn's raw with its patience, written to with mu held.
type patientWriter Conn

// Write implements io.Writer.
func (w *patientWriter) Write(p []byte) (int, error) {
	if w.patience > 0 {
		w.raw.SetWriteDeadline(time.Now().Add(w.patience))
	}
	return w.quick.Write(p)
}

// Recv returns the next message; see Reader.Next. The body is valid until the
// following Recv. One goroutine at a time.
func (c *Conn) Recv() (Kind, []byte, error) {
	if c.borrowed {
		c.borrowed = false
		c.returned.Add(1)
	}
	for {
		kind, body, err := c.in.Next()
		switch {
		case err != nil || kind <= KindControl:
			return kind, body, err
		case kind == kindPooled:
			body, err = c.borrows.get(body)
			c.borrowed = err == nil
			return KindFrame, body, err
		}
		if err := c.lends.Load().release(body); err != nil {
			return 0, nil, err
		}
	}
}

// EndRecv gives back the memory that bodies were received in. The goroutine that
// receives calls it when it will not do so again.
func (c *Conn) EndRecv() { c.borrows.close() }

// Ready is Reader.Ready of the receiving side, for the goroutine that receives.
func (c *Conn) Ready() bool { return c.in.Ready() }

// Queue appends one message to the outgoing buffer; it reaches the other side
// with the next Flush, or earlier when the buffer is full. An error other than
// ErrTooLong is final for the sending side.
func (c *Conn) Queue(kind Kind, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue(kind, body)
}

func (c *Conn) queue(kind Kind, body []byte) error {
	if len(body) > MaxBody {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(body), MaxBody)
	}
	if n := c.returned.Swap(0); n > 0 {
		c.header(2, kindRelease)
		c.number(int(n))
	}
	if kind == KindFrame {
		if lent, ok := c.lends.Load().place(body); ok {
			return c.queueLent(lent)
		}
	}
	c.header(len(body), kind)
	_, err := c.out.Write(body)
	return err
}

// Lend places a frame in the memory shared with the program, from where it goes on
// its way with QueueLent. It never waits. It fails when no memory is shared or
// free, and for frames so short that it would be of no use: then Queue the frame.
// What was lent is to be queued in the same order.
func (c *Conn) Lend(frame []byte) (Lent, bool) { return c.lends.Load().lend(frame) }

// QueueLent is Queue for a frame that was lent.
func (c *Conn) QueueLent(lent Lent) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lends.Load().queued()
	return c.queueLent(lent)
}

func (c *Conn) queueLent(lent Lent) error {
	c.header(4, kindPooled)
	c.number(lent.slot)
	return c.number(lent.length)
}

func (c *Conn) header(length int, kind Kind) {
	c.number(length)
	c.out.WriteByte(byte(kind))
}

// number appends 16 bits to out. bufio.Writer keeps its first error, so the last
// call reports for all.
func (c *Conn) number(n int) error {
	c.out.WriteByte(byte(n >> 8))
	return c.out.WriteByte(byte(n))
}

// Flush hands everything queued to the socket.
func (c *Conn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Flush()
}

// Send queues one message and flushes.
func (c *Conn) Send(kind Kind, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.queue(kind, body); err != nil {
		return err
	}
	return c.out.Flush()
}

// SendControl sends v, a Request or a Reply, as a control message.
func (c *Conn) SendControl(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode control message: %w", err)
	}
	return c.Send(KindControl, body)
}

// SendError sends the error message for err: its own code and text when err
// holds an *Error, else code with err's text.
func (c *Conn) SendError(code Code, err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		return c.SendControl(Reply{Code: known.Code, Error: known.Error()})
	}
	return c.SendControl(Reply{Code: code, Error: err.Error()})
}

// SendPeers answers a peers request with as many messages as the list needs.
// A hostile neighbour can announce services whose JSON takes six bytes for
// each of theirs, so a full table need not fit into one message.
func (c *Conn) SendPeers(peers []Peer) error {
	const room = MaxBody - 64 // less the object around the list
	for {
		n, size := 0, 0
		for n < len(peers) {
			body, err := json.Marshal(peers[n])
			if err != nil {
				return fmt.Errorf("encode peer: %w", err)
			}
			if size += len(body) + 1; size > room && n > 0 {
				break
			}
			n++
		}
		part := append(make([]Peer, 0, n), peers[:n]...)
		peers = peers[n:]
		if err := c.SendControl(Reply{Peers: part, More: len(peers) > 0}); err != nil {
			return err
		}
		if len(peers) == 0 {
			return nil
		}
	}
}

// RecvRequest receives the client's first message. The caller sets a read
// deadline first, so that a client that says nothing costs nothing. An *Error
// (CodeBadRequest) is the client's fault and is to be answered with SendError;
// any other error means the connection is over.
func (c *Conn) RecvRequest() (Request, error) {
	kind, body, err := c.Recv()
	if err != nil {
		return Request{}, err
	}
	if kind != KindControl {
		return Request{}, &Error{Code: CodeBadRequest, Text: "bad request: the first message must be control, got " + kind.String()}
	}
	return ParseRequest(body)
}

// RecvReply receives a control message of dsoftbusd. An error reply comes back
// as its *Error.
func (c *Conn) RecvReply() (Reply, error) {
	kind, body, err := c.Recv()
	if err != nil {
		if err == io.EOF {
			err = fmt.Errorf("dsoftbusd closed the connection without an answer: %w", io.ErrUnexpectedEOF)
		}
		return Reply{}, err
	}
	if kind != KindControl {
		return Reply{}, fmt.Errorf("want a control message, got %s", kind)
	}
	reply, err := ParseReply(body)
	if err != nil {
		return Reply{}, err
	}
	return reply, reply.Err()
}

// ask sends the client's request and receives the first reply. A server that
// is closing refuses without reading; its reason is worth more than the broken
// pipe of the request.
func (c *Conn) ask(req Request) (Reply, error) {
	sendErr := c.SendControl(req)
	reply, err := c.RecvReply()
	if _, told := errors.AsType[*Error](err); sendErr != nil && !told {
		return Reply{}, sendErr
	}
	return reply, err
}

// SetDeadline bounds Recv and the sending calls; the zero time lifts it.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// SetReadDeadline bounds Recv.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline bounds the sending calls. A message cut by it leaves the
// connection unusable: close it.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

// SetWriteTimeout gives every write to the socket a deadline of its own, d after
// it began. That costs less than SetWriteDeadline before each Queue, most of
// which write nothing.
func (c *Conn) SetWriteTimeout(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = d
}

// Close ends the connection and every call on it. What is queued and not
// flushed is lost.
func (c *Conn) Close() error {
	err := c.raw.Close()
	c.lends.Load().close()
	return err
}

// SendOpened answers an open request with OK. A program that takes it gets shared
// memory for the long answers; where there is none to be had they go through the
// socket.
func (c *Conn) SendOpened(open Open) error {
	raw, local := c.raw.(*net.UnixConn)
	if !open.Shared || !local {
		return c.SendControl(Reply{OK: true})
	}
	lends, file, err := newPool()
	if err != nil {
		return c.SendControl(Reply{OK: true})
	}
	defer file.Close()
	body, err := json.Marshal(Reply{OK: true, Shared: true})
	if err != nil {
		lends.close()
		return fmt.Errorf("encode control message: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lends.Store(lends)
	message := append([]byte{byte(len(body) >> 8), byte(len(body)), byte(KindControl)}, body...)
	// So few bytes go in whole: nothing was sent before.
	_, _, err = raw.WriteMsgUnix(message, unix.UnixRights(int(file.Fd())), nil)
	return err
}

// OpenPeer connects to dsoftbusd's socket and opens the way to peer's package
// service, waiting up to wait for a session. Afterwards the connection
// carries PK frames. A refusal is an *Error; ctx bounds all of it.
func OpenPeer(ctx context.Context, socket, peer string, wait time.Duration) (*Conn, error) {
	wait = min(max(wait, 0), MaxWait)
	c, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.descriptors.close()
	// Round up: a wait below a millisecond is still a wait.
	ms := (wait + time.Millisecond - 1).Milliseconds()
	err = c.during(ctx, func() error {
		reply, err := c.ask(Request{Open: &Open{Peer: peer, WaitMS: ms, Shared: true}})
		if err == nil && !reply.OK {
			err = errors.New(`malformed control message: neither "ok" nor "error"`)
		}
		if err == nil {
			err = c.borrow(reply.Shared)
		}
		return err
	})
	if err != nil {
		c.Close()
		c.EndRecv()
		return nil, fmt.Errorf("open %s through %s: %w", peer, socket, err)
	}
	return c, nil
}

// maxPeers bounds how many peers a client takes from one answer: far more than
// any node lists, so that a broken server cannot fill the memory.
const maxPeers = 4096

// Peers asks dsoftbusd at socket for the devices it knows.
func Peers(ctx context.Context, socket string) ([]Peer, error) {
	c, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.descriptors.close()
	defer c.Close()
	var peers []Peer
	err = c.during(ctx, func() error {
		reply, err := c.ask(Request{Peers: true})
		for ; ; reply, err = c.RecvReply() {
			if err != nil {
				return err
			}
			if reply.Peers == nil {
				return errors.New(`malformed control message: neither "peers" nor "error"`)
			}
			peers = append(peers, reply.Peers...)
			if len(peers) > maxPeers {
				return fmt.Errorf("more than %d peers", maxPeers)
			}
			if !reply.More {
				return nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list peers through %s: %w", socket, err)
	}
	return peers, nil
}

func dial(ctx context.Context, socket string) (*Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("reach dsoftbusd (is it running?): %w", err)
	}
	// A client sends short requests: 4 KiB hold the largest burst of READs it
	// keeps on the way, and what is longer goes past the buffer.
	c := newConn(raw, 4096)
	c.descriptors = &descriptorReader{first: raw.(*net.UnixConn), then: c.quick}
	c.in = NewReader(c.descriptors)
	return c, nil
}

// borrow maps the memory that came with the answer to an open request.
func (c *Conn) borrow(shared bool) error {
	file := c.descriptors.take()
	if file != nil {
		defer file.Close()
	}
	if shared != (file != nil) {
		return fmt.Errorf("%w: shared is %t, and there is a descriptor: %t", errPool, shared, file != nil)
	}
	if !shared {
		return nil
	}
	var err error
	c.borrows, err = openPool(file)
	return err
}

// during runs f with the connection's deadline in ctx's hands, and returns
// ctx's cause when that is what ended f.
func (c *Conn) during(ctx context.Context, f func() error) error {
	// A deadline in the past ends blocked calls at once and, unlike Close,
	// can be taken back.
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		// ctx ended while f ran; its deadline may be set only after this
		// return, so the connection is of no use even if f succeeded.
		return context.Cause(ctx)
	}
	return err
}
