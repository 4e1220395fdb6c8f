package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"dsoftbus-rig/nodes/agentapi"
)

// A Conn is a connection to a TCP port of a machine's own loopback address. One
// goroutine may read while another writes.
type Conn struct {
	client *Client
	what   string
	s      stream
	out    *agentapi.FrameWriter
	rest   []byte // of the last frame
	err    error  // of Read, for good
}

// Dial connects to a TCP port of the machine's own loopback address, which the agent
// does inside: nothing of it is on the network under test. ctx bounds the connecting.
func (c *Client) Dial(ctx context.Context, port uint16) (*Conn, error) {
	what := fmt.Sprintf("port %d", port)
	type opened struct {
		s   stream
		err error
	}
	// Not await: what is opened too late has to be closed.
	result := make(chan opened, 1)
	go func() {
		s, _, err := c.request(agentapi.MethodDial, agentapi.Dial{Port: port})
		result <- opened{s, err}
	}()
	select {
	case o := <-result:
		if o.err != nil {
			return nil, o.err
		}
		return &Conn{client: c, what: what, s: o.s, out: agentapi.NewFrameWriter(o.s)}, nil
	case <-ctx.Done():
	}
	go func() {
		if o := <-result; o.err == nil {
			o.s.abandon()
		}
	}()
	return nil, fmt.Errorf("connect to %s: %w", what, context.Cause(ctx))
}

// Read reads what the other side sends. io.EOF says that it sends no more; another
// error, that the connection did not end in order.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 && c.err == nil {
		kind, payload, err := agentapi.ReadFrame(c.s)
		switch {
		case err != nil:
			c.err = c.client.broken(c.what, fmt.Errorf("the connection breaks off: %w", err))
		case kind == agentapi.FrameBytes:
			c.rest = payload
		case kind == agentapi.FrameEnd:
			var reply agentapi.Reply
			err := json.Unmarshal(payload, &reply)
			if err == nil {
				err = failure(reply)
			}
			if c.err = io.EOF; err != nil {
				c.err = fmt.Errorf("%s: %w", c.what, err)
			}
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	if n == 0 {
		return 0, c.err
	}
	return n, nil
}

// Write sends b. What a connection that has ended does not take is lost: Read says that
// it has.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.Stream(agentapi.FrameBytes).Write(b)
	if err != nil {
		err = c.client.broken(c.what, err)
	}
	return n, err
}

// CloseWrite says that nothing more is sent. Read goes on.
func (c *Conn) CloseWrite() error {
	if err := c.out.WriteFrame(agentapi.FrameEnd, []byte("{}")); err != nil {
		return c.client.broken(c.what, err)
	}
	return nil
}

// Close ends the connection both ways.
func (c *Conn) Close() error {
	c.s.abandon()
	return nil
}
