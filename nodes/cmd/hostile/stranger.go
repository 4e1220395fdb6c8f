package hostile

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"dsoftbus-rig/protocol/session"
)

// full takes all places for unfinished handshakes, and asks for one more.
func full(ctx context.Context, r *request) (string, error) {
	var held []net.Conn
	release := func() {
		for _, c := range held {
			c.Close()
		}
	}
	defer release()
	// Connections are accepted in their order, so that it is the last one that finds no place.
	for range r.count {
		c, err := r.connect(ctx)
		if err != nil {
			return "", err
		}
		held = append(held, c)
	}
	more, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	defer more.Close()
	n, took, err := closed(more, atOnce)
	if err != nil || n > 0 {
		return "", fmt.Errorf("connection %d: %d bytes, %v; want it closed at once", r.count+1, n, err)
	}
	for i, c := range held {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", fmt.Errorf("connection %d of %d has no place any more: %d bytes, %v", i+1, r.count, n, err)
		}
	}
	release()
	if err := r.knock(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("held=%d refused_after_ms=%d", r.count, took.Milliseconds()), nil
}

// slow sends a byte each half second, so that the first message would take 25 s.
func slow(ctx context.Context, r *request) (string, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	begin := time.Now()
	go func() {
		for _, b := range append([]byte{0, 48}, make([]byte, 48)...) {
			if _, err := c.Write([]byte{b}); err != nil || !wait(ctx, 500*time.Millisecond) {
				return
			}
		}
	}()
	n, _, err := closed(c, handshakeTime+slack)
	if err != nil || n > 0 {
		return "", fmt.Errorf("%d bytes came, %v", n, err)
	}
	if took := time.Since(begin); took < handshakeTime-slack {
		return "", fmt.Errorf("closed after %s already", took)
	}
	return fmt.Sprintf("closed_after_ms=%d", time.Since(begin).Milliseconds()), r.knock(ctx)
}

// garbage sends what is no handshake, of various beginnings.
func garbage(ctx context.Context, r *request) (string, error) {
	beginnings := [][]byte{nil, {0, 0}, {0, 48}, {0, 47}, {0xff, 0xff}, []byte("PK\x01\x01"), []byte("GET / HTTP/1.1\r\n\r\n"), {0x16, 3, 1, 2, 0}}
	for i := range r.count {
		c, err := r.connect(ctx)
		if err != nil {
			return "", err
		}
		sent := append(slices.Clone(beginnings[i%len(beginnings)]), make([]byte, 200)...)
		rand.Read(sent[len(sent)-200:])
		c.Write(sent) // that may be cut off: the victim need not read it all
		n, _, err := closed(c, handshakeTime+slack)
		c.Close()
		if err != nil || n > 0 {
			return "", fmt.Errorf("%x… is answered with %d bytes, %v", sent[:8], n, err)
		}
	}
	return fmt.Sprintf("connections=%d", r.count), r.knock(ctx)
}

// unpaired does good handshakes with a bad key.
func unpaired(ctx context.Context, r *request) (string, error) {
	for _, id := range []string{"stranger", r.self.ID} {
		key, err := session.GenerateKeyPair(nil)
		if err != nil {
			return "", err
		}
		p, err := r.handshake(ctx, key, id, nil)
		if err != nil {
			return "", err
		}
		p.Send(session.ChannelPackageFS, []byte("PK\x01\x01")) // may be too late
		n, _, err := closed(p.raw, atOnce)
		p.raw.Close()
		if err != nil || n > 0 {
			return "", fmt.Errorf("as %q: %d bytes came, %v; want no answer and the end", id, n, err)
		}
	}
	return "handshakes=2", nil
}

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	writes [][]byte
}

// Write implements net.Conn.
func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, bytes.Clone(p))
	return r.Conn.Write(p)
}

// replay says again what made a session once.
func replay(ctx context.Context, r *request) (string, error) {
	var rec *recorder
	p, err := r.handshake(ctx, r.self.Key, r.self.ID, func(c net.Conn) net.Conn {
		rec = &recorder{Conn: c}
		return rec
	})
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	messages := rec.writes
	if len(messages) != 2 {
		return "", fmt.Errorf("the handshake was %d writes", len(messages))
	}
	if err := p.letIn(); err != nil {
		return "", err
	}
	// The first message alone proves nothing, and is answered; the third belongs to that answer's key.
	const answer = 2 + 48
	for _, again := range []struct {
		name string
		sent [][]byte
		most int64
	}{
		{"messages 1 and 3", messages, answer},
		{"message 3 alone", messages[1:], 0},
	} {
		c, err := r.connect(ctx)
		if err != nil {
			return "", err
		}
		for _, message := range again.sent {
			c.Write(message)
		}
		n, _, err := closed(c, atOnce)
		c.Close()
		if err != nil || n > again.most {
			return "", fmt.Errorf("%s: %d bytes came, %v", again.name, n, err)
		}
	}
	// The session that was good is untouched.
	if _, err := p.call([]byte("PK\x01\x09")); err != nil {
		return "", fmt.Errorf("the session that was replayed: %w", err)
	}
	return "replayed=2", nil
}
