package netbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"dsoftbus-rig/nodes/quickconn"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// serve answers measurements until ctx ends, one connection at a time: two at once would measure each other.
func serve(ctx context.Context, r *request) error {
	listener, err := net.Listen("tcp", r.listen)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	defer listener.Close()
	if _, err := fmt.Fprintln(r.stdout, "netbench: ready"); err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if err := serveConn(ctx, conn); err != nil && ctx.Err() == nil {
			fmt.Fprintf(r.stderr, "netbench: connection from %s: %v\n", conn.RemoteAddr(), err)
		}
	}
}

// serveConn gives one client its streams. It returns nil when the client has gone after them.
func serveConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(helloTime))
	var first [helloSize]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return fmt.Errorf("read what is wanted: %w", err)
	}
	k, err := parseHello(first[:])
	if err != nil {
		return err
	}
	source := source(&plainSource{conn: conn})
	switch k {
	case kindNoise:
		source, err = newNoiseSource(quickconn.New(conn))
	case kindPlainNoise:
		source, err = newNoiseSource(conn)
	}
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(maxTime))
	left := uint64(maxBytes + warmUpPieces*maxRecord)
	for {
		a, err := source.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is wanted: %w", err)
		}
		if a.bytes > left {
			return fmt.Errorf("%d bytes asked for, %d are left to this connection", a.bytes, left)
		}
		left -= a.bytes
		for a.bytes > 0 {
			n := min(uint64(a.piece), a.bytes)
			if err := source.send(int(n)); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			a.bytes -= n
		}
	}
}

// A source is the sending side of a stream.
type source interface {
	// next waits for an ask; io.EOF is the client's end.
	next() (ask, error)
	// send sends one piece of n bytes, at most maxRecord.
	send(n int) error
}

type plainSource struct {
	conn net.Conn
	zero [maxRecord]byte
}

func (s *plainSource) next() (ask, error) {
	var b [askSize]byte
	if _, err := io.ReadFull(s.conn, b[:]); err != nil {
		return ask{}, err
	}
	return parseAsk(b[:])
}

func (s *plainSource) send(n int) error {
	_, err := s.conn.Write(s.zero[:n])
	return err
}

type noiseSource struct {
	sess  *session.Conn
	zero  [maxRecord]byte
	frame []byte
	size  int // of the data in frame
}

func newNoiseSource(conn net.Conn) (*noiseSource, error) {
	sess, err := session.Respond(conn, identity(), func([session.KeySize]byte, string) error { return nil })
	if err != nil {
		return nil, err
	}
	return &noiseSource{sess: sess}, nil
}

func (s *noiseSource) next() (ask, error) {
	_, payload, err := s.sess.Recv()
	if err != nil {
		return ask{}, err
	}
	return parseAsk(payload)
}

func (s *noiseSource) send(n int) error {
	if s.size != n {
		s.frame, s.size = pk.AppendReadResponse(s.frame[:0], pk.OK, s.zero[:n]), n
	}
	return s.sess.Send(session.ChannelPackageFS, s.frame)
}
