package netbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"dsoftbus-rig/nodes/quickconn"
	"dsoftbus-rig/protocol/session"
)

func measureTCP(ctx context.Context, r *request) error {
	return measure(ctx, r, kindTCP, writeSize, func(conn net.Conn) (sink, error) {
		return &plainSink{conn: conn}, nil
	})
}

func measureNoise(ctx context.Context, r *request) error {
	k := kindNoise
	if r.plain {
		k = kindPlainNoise
	}
	return measure(ctx, r, k, r.record, func(conn net.Conn) (sink, error) {
		if k == kindNoise {
			conn = quickconn.New(conn)
		}
		self := identity()
		sess, err := session.Initiate(conn, self, self.Static.Public)
		if err != nil {
			return nil, err
		}
		return &noiseSink{sess: sess}, nil
	})
}

// A sink is the receiving side of a stream.
type sink interface {
	ask(a ask) error
	// receive waits for more of the stream, at most left bytes, and says how much came.
	receive(left int64) (int64, error)
}

// measure times one stream behind its warm-up, and prints the result.
func measure(ctx context.Context, r *request, k kind, piece int, open func(net.Conn) (sink, error)) error {
	var dialer net.Dialer
	dialling, cancel := context.WithTimeout(ctx, helloTime)
	conn, err := dialer.DialContext(dialling, "tcp", r.peer.String())
	cancel()
	if err != nil {
		return fmt.Errorf("connect to %s (is `netbench serve` running there?): %w", r.peer, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// A server that is serving somebody else answers when it is done with them.
	conn.SetDeadline(time.Now().Add(maxTime))
	seconds, err := func() (float64, error) {
		if _, err := conn.Write(hello(k)); err != nil {
			return 0, err
		}
		from, err := open(conn)
		if err != nil {
			return 0, err
		}
		if _, err := stream(from, piece, min(r.bytes, int64(piece)*warmUpPieces)); err != nil {
			return 0, fmt.Errorf("warm up: %w", err)
		}
		took, err := stream(from, piece, r.bytes)
		return took.Seconds(), err
	}()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("stream from %s: %w", r.peer, err)
	}
	_, err = fmt.Fprintf(r.stdout, "bytes=%d seconds=%.6f MB/s=%.4f\n", r.bytes, seconds, float64(r.bytes)/1e6/seconds)
	return err
}

// stream receives one stream and says how long that took.
func stream(from sink, piece int, bytes int64) (time.Duration, error) {
	start := time.Now()
	if err := from.ask(ask{piece: uint32(piece), bytes: uint64(bytes)}); err != nil {
		return 0, err
	}
	for left := bytes; left > 0; {
		n, err := from.receive(left)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("ended %d bytes early: %w", left, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return 0, err
		}
		left -= n
	}
	return time.Since(start), nil
}

type plainSink struct {
	conn net.Conn
	buf  [writeSize]byte
}

func (s *plainSink) ask(a ask) error {
	_, err := s.conn.Write(a.append(nil))
	return err
}

func (s *plainSink) receive(left int64) (int64, error) {
	n, err := s.conn.Read(s.buf[:min(int64(len(s.buf)), left)])
	if n > 0 {
		err = nil // the next read says so
	}
	return int64(n), err
}

type noiseSink struct{ sess *session.Conn }

func (s *noiseSink) ask(a ask) error { return s.sess.Send(session.ChannelPackageFS, a.append(nil)) }

func (s *noiseSink) receive(left int64) (int64, error) {
	_, payload, err := s.sess.Recv()
	if err != nil {
		return 0, err
	}
	n := int64(len(payload) - readHeader)
	if n < 1 || n > left {
		return 0, fmt.Errorf("a record of %d bytes with %d to come", len(payload), left)
	}
	return n, nil
}
