package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// connect connects to the victim's session port. The connection ends with ctx.
func (r *request) connect(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: handshakeTime}
	c, err := d.DialContext(ctx, "tcp", r.peer.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return c, nil
}

// handshake connects and does the dialler's side of a handshake; rw, if set, stands between it and the connection.
func (r *request) handshake(ctx context.Context, static session.KeyPair, id string, between func(net.Conn) net.Conn) (*peer, error) {
	raw, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	c := raw
	if between != nil {
		c = between(raw)
	}
	raw.SetDeadline(time.Now().Add(handshakeTime + slack))
	sess, err := session.Initiate(c, session.Config{Static: static, DeviceID: id}, r.victim.Key)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	raw.SetDeadline(time.Time{})
	return &peer{Conn: sess, raw: raw}, nil
}

// knock makes sure that the victim answers a stranger's handshake, as it must after every attack. It may take as long as
// unfinished ones are allowed to stay.
func (r *request) knock(ctx context.Context) error {
	key, err := session.GenerateKeyPair(nil)
	if err != nil {
		return err
	}
	for end := time.Now().Add(handshakeTime + slack); ; {
		p, err := r.handshake(ctx, key, "stranger", nil)
		if err == nil {
			p.raw.Close()
			return nil
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("afterwards no handshake is answered: %w", err)
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// paired gives a session as this device. It is one only with the victim's first record: until then it may still say no.
func (r *request) paired(ctx context.Context) (*peer, error) {
	p, err := r.handshake(ctx, r.self.Key, r.self.ID, nil)
	if err != nil {
		return nil, err
	}
	if err := p.letIn(); err != nil {
		p.raw.Close()
		return nil, err
	}
	return p, nil
}

// peer is a session without any of the rules that a daemon follows.
type peer struct {
	*session.Conn
	raw net.Conn
}

// letIn waits for the victim's first record, and sends one.
func (p *peer) letIn() error {
	p.raw.SetReadDeadline(time.Now().Add(deadAfter + slack))
	if _, _, err := p.Recv(); err != nil {
		return fmt.Errorf("not let in (is dsoftbusd stopped here, and this device's id the smaller one?): %w", err)
	}
	// Its ping, and what makes this a session to it, too.
	return p.Send(session.ChannelControl, session.AppendPong(nil))
}

// frame gives the next PK frame, and answers pings. It is valid until the next call.
func (p *peer) frame() ([]byte, error) {
	for {
		if !p.Ready() {
			p.raw.SetReadDeadline(time.Now().Add(deadAfter + slack))
		}
		channel, payload, err := p.Recv()
		if err != nil {
			return nil, fmt.Errorf("instead of an answer: %w", err)
		}
		if channel == session.ChannelPackageFS {
			return payload, nil
		}
		c, err := session.ParseControl(payload)
		switch {
		case err != nil:
			return nil, err
		case c.Kind == session.CloseSession:
			return nil, fmt.Errorf("instead of an answer the session was closed: %q", c.Reason)
		case c.Kind == session.Ping:
			if err := p.Send(session.ChannelControl, session.AppendPong(nil)); err != nil {
				return nil, err
			}
		}
	}
}

// call sends a request and gives the answer's frame.
func (p *peer) call(request []byte) ([]byte, error) {
	p.raw.SetWriteDeadline(time.Now().Add(deadAfter + slack))
	if err := p.Send(session.ChannelPackageFS, request); err != nil {
		return nil, err
	}
	return p.frame()
}

// ask is call for a request that must be answered with a status.
func (p *peer) ask(request []byte, want pk.Status) (pk.Response, error) {
	frame, err := p.call(request)
	if err != nil {
		return pk.Response{}, err
	}
	response, err := pk.ParseResponse(frame)
	if err == nil && frame[3] != pk.EchoOp(request) {
		err = fmt.Errorf("%x is answered %x, which is the answer to something else", request, frame)
	}
	if err == nil && response.Status != want {
		err = fmt.Errorf("%x is answered %s, want %s", request, response.Status, want)
	}
	return response, err
}

// ended waits for the session's end, and gives the reason that the victim told, if any.
func (p *peer) ended(within time.Duration) (reason string, took time.Duration, err error) {
	begin := time.Now()
	p.raw.SetReadDeadline(begin.Add(within))
	for {
		channel, payload, err := p.Recv()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return reason, 0, fmt.Errorf("the session goes on after %s", within)
		}
		if err != nil {
			return reason, time.Since(begin), nil
		}
		if channel != session.ChannelControl {
			return reason, 0, fmt.Errorf("%d bytes on channel %d instead of an end", len(payload), channel)
		}
		if c, err := session.ParseControl(payload); err == nil && c.Kind == session.CloseSession {
			reason = c.Reason
		}
	}
}

// closed waits for a connection's end, and gives how many bytes came before.
func closed(c net.Conn, within time.Duration) (n int64, took time.Duration, err error) {
	begin := time.Now()
	c.SetReadDeadline(begin.Add(within))
	n, err = io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, 0, fmt.Errorf("the connection is open after %s", within)
	}
	return n, time.Since(begin), nil
}

// wait waits for a duration; it tells whether ctx is still going on.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
