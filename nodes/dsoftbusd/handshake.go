package dsoftbusd

import (
	"context"
	"net"
	"time"

	"dsoftbus-rig/nodes/quickconn"
	"dsoftbus-rig/protocol/session"
)

// shaken is a session with the connection underneath it.
type shaken struct {
	*session.Conn
	raw *stream
}

// handshake runs one side of the handshake on raw within its deadline and while ctx goes on. It closes raw unless it
// succeeds.
func (d *daemon) handshake(ctx context.Context, raw net.Conn, side func(net.Conn) (*session.Conn, error)) (shaken, error) {
	s := &stream{Conn: quickconn.New(raw)}
	raw.SetDeadline(time.Now().Add(d.limits.HandshakeTimeout))
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	sess, err := side(s)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		return shaken{}, err
	}
	// From here on each read and each write is given a deadline of its own.
	s.patience = d.limits.DeadAfter
	return shaken{sess, s}, nil
}

// stream is a connection of which no write waits longer than the patience set, so that a peer which reads nothing cannot
// hold whoever sends. Zero leaves the deadline alone.
type stream struct {
	net.Conn
	patience time.Duration
}

// Write implements net.Conn. A session's writes do not overlap.
func (s *stream) Write(p []byte) (int, error) {
	if s.patience > 0 {
		s.Conn.SetWriteDeadline(time.Now().Add(s.patience))
	}
	return s.Conn.Write(p)
}
