package dsoftbusd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// window is how many requests of this side are on their way at a time: what every server reads ahead (contract, section
// 3), so that the peer's receiver, and with it its answers to others, never waits for its server.
const window = 32

// maxOwned bounds the handles that a peer may have given out to local programs at a time.
const maxOwned = 1024

var errTooManyHandles = errors.New("peer has given out too many handles")

// errUnasked ends the session of a peer that answers what nobody has asked, or
// answers out of order.
var errUnasked = errors.New("a response that answers no request")

// calls are the requests of local programs on one session. Answers come in the order of the requests, so a list of who
// asked says whose an answer is.
type calls struct {
	sess  *session.Conn
	slots chan struct{} // one element for each request on its way

	order sync.Mutex // held while a request is listed and sent: both happen in the same order

	mu       sync.Mutex
	waiting  []call              // oldest first, at most window
	owners   map[uint32]*program // of open handles
	orphans  []uint32            // open handles whose program is gone
	orphaned chan struct{}       // holds one: orphans has something new
}

// call is a request on its way.
type call struct {
	owner  *program // nil: nobody waits for the answer
	echo   byte     // the answer's byte 3
	closes uint32   // the handle that the request closes, if it is a CLOSE
}

func newCalls(sess *session.Conn) *calls {
	return &calls{
		sess:     sess,
		slots:    make(chan struct{}, window),
		owners:   make(map[uint32]*program),
		orphaned: make(chan struct{}, 1),
	}
}

// requests are requests on their way out: together, so that a program which asks for much at once costs one write. They have
// slots already.
type requests struct {
	batch session.Batch
	calls []call
}

// add takes in a request frame, at most session.MaxPayload bytes, for owner; post has to follow. It waits for a free slot as
// long as ctx goes on, and posts what is there before: that may be what the slot depends on.
func (c *calls) add(ctx context.Context, out *requests, owner *program, frame []byte) error {
	select {
	case c.slots <- struct{}{}:
	default:
		if err := c.post(out); err != nil {
			return err
		}
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := out.batch.Add(session.ChannelPackageFS, frame); err != nil {
		<-c.slots
		return err
	}
	out.calls = append(out.calls, call{owner: owner, echo: pk.EchoOp(frame), closes: closedHandle(frame)})
	return nil
}

// post sends what was added.
func (c *calls) post(out *requests) error {
	if len(out.calls) == 0 {
		return nil
	}
	c.order.Lock()
	defer c.order.Unlock()
	c.mu.Lock()
	c.waiting = append(c.waiting, out.calls...)
	c.mu.Unlock()
	out.calls = out.calls[:0]
	return c.sess.SendBatch(&out.batch)
}

// closedHandle gives the handle of a CLOSE. In any other frame it gives 0, which is nobody's handle.
func closedHandle(frame []byte) uint32 {
	if len(frame) != 8 || pk.EchoOp(frame) != pk.EchoOp(pk.AppendClose(nil, 0)) {
		return 0
	}
	return binary.LittleEndian.Uint32(frame[4:])
}

// answer hands a frame to whoever waits for it. It tells whether the frame is an answer at all; an error ends the session.
func (c *calls) answer(frame []byte) (bool, error) {
	owner, answered, err := c.match(frame)
	if !answered || err != nil {
		return answered, err
	}
	<-c.slots
	if owner != nil {
		owner.deliver(frame)
	}
	return true, nil
}

func (c *calls) match(frame []byte) (owner *program, answered bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || !pk.IsResponse(frame, c.waiting[0].echo) {
		return nil, false, nil
	}
	request := c.waiting[0]
	c.waiting = append(c.waiting[:0], c.waiting[1:]...)
	r, err := pk.ParseResponse(frame)
	if err != nil {
		// The program that asked finds out; to this daemon it means only that no handle was opened or closed.
		return request.owner, true, nil
	}
	switch {
	case r.Status != pk.OK:
	case r.Op == pk.Close:
		delete(c.owners, request.closes)
	case r.Op == pk.Open && request.owner == nil:
		c.orphan(r.Handle)
	case r.Op == pk.Open:
		if len(c.owners) >= maxOwned {
			return nil, true, fmt.Errorf("%w: %d", errTooManyHandles, maxOwned)
		}
		c.owners[r.Handle] = request.owner
	}
	return request.owner, true, nil
}

// abandon forgets a program that has gone: its answers are dropped, its handles will be closed.
func (c *calls) abandon(owner *program) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.waiting {
		if c.waiting[i].owner == owner {
			c.waiting[i].owner = nil
		}
	}
	for handle, o := range c.owners {
		if o == owner {
			delete(c.owners, handle)
			c.orphan(handle)
		}
	}
}

// orphan notes a handle that is to be closed. c.mu is held.
func (c *calls) orphan(handle uint32) {
	c.orphans = append(c.orphans, handle)
	select {
	case c.orphaned <- struct{}{}:
	default:
	}
}

func (c *calls) takeOrphans() []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.orphans
	c.orphans = nil
	return taken
}

// closeOrphans closes the handles that programs left open, until the link ends: then the peer frees them itself.
func (l *link) closeOrphans() {
	var out requests
	for {
		select {
		case <-l.calls.orphaned:
		case <-l.ctx.Done():
			return
		}
		var err error
		for _, handle := range l.calls.takeOrphans() {
			if err = l.calls.add(l.ctx, &out, nil, pk.AppendClose(nil, handle)); err != nil {
				break
			}
		}
		if err == nil {
			err = l.calls.post(&out)
		}
		if err != nil {
			l.end(err)
			return
		}
	}
}
