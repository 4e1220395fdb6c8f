package dsoftbusd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"dsoftbus-rig/protocol/session"
)

// acceptRetry keeps a listener that is out of descriptors from spinning.
const acceptRetry = 50 * time.Millisecond

// acceptSessions takes connections of whoever connects until ctx ends.
func (d *daemon) acceptSessions(ctx context.Context) {
	if !d.awaitReady(ctx) {
		return
	}
	for {
		raw, err := d.network.Sessions.Accept()
		if err != nil {
			if !d.acceptAgain(ctx, "connections", err) {
				return
			}
			continue
		}
		select {
		case d.handshakes <- struct{}{}:
			d.running.Go(func() { d.answer(ctx, raw) })
		default:
			raw.Close()
			d.deny(deniedTooMany, raw, deniedTooMany)
		}
	}
}

// acceptAgain says whether to go on after accepting has failed, and when: nothing tells when a descriptor is free again.
func (d *daemon) acceptAgain(ctx context.Context, what string, err error) bool {
	if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
		return false
	}
	if d.markers.onceASecond("accept " + what) {
		d.log.Printf("accept %s: %v; trying on", what, err)
	}
	return pause(ctx, acceptRetry)
}

// answer does the handshake with a dialler and runs the session that comes of it.
func (d *daemon) answer(ctx context.Context, raw net.Conn) {
	l, err := d.letIn(ctx, raw)
	<-d.handshakes
	if err != nil {
		if ctx.Err() == nil {
			d.deny(denialOf(err), raw, err)
		}
		return
	}
	l.run(ctx)
}

func (d *daemon) letIn(ctx context.Context, raw net.Conn) (*link, error) {
	var peer *pairedPeer
	sess, err := d.handshake(ctx, raw, func(raw net.Conn) (*session.Conn, error) {
		return session.Respond(raw, session.Config{Static: d.static(), KeyLog: d.keyLog}, func(static [session.KeySize]byte, id string) error {
			var err error
			peer, err = d.authorize(static, id)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return d.newLink(peer, sess), nil
}

// authorize decides on a dialler that has proved to hold the key static.
func (d *daemon) authorize(static [session.KeySize]byte, id string) (*pairedPeer, error) {
	peer, _ := d.peers.status(id, time.Now())
	switch {
	case peer == nil:
		return nil, deniedNotPaired
	case peer.Key != static:
		return nil, deniedWrongKey
	case d.dials(id):
		return nil, deniedNotDialler
	}
	return peer, nil
}

// denial is why a connection did not become a session, as the marker says it.
type denial string

// Error implements error.
func (d denial) Error() string { return string(d) }

const (
	deniedNotPaired  denial = "not paired"
	deniedWrongKey   denial = "wrong key"
	deniedNotDialler denial = "not the dialler of the pair"
	deniedTooMany    denial = "too many handshakes"
	deniedTimeout    denial = "handshake timeout"
	deniedCut        denial = "handshake cut short"
	deniedFailed     denial = "handshake failed"
)

func denialOf(err error) denial {
	var d denial
	switch {
	case errors.As(err, &d):
		return d
	case errors.Is(err, os.ErrDeadlineExceeded):
		return deniedTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return deniedCut
	}
	return deniedFailed
}

// deny reports a connection that was refused. Anyone can connect as often as they like, so each reason is limited.
func (d *daemon) deny(why denial, raw net.Conn, err error) {
	if d.markers.printLimited(string(why), "dsoftbusd: session denied "+string(why)) {
		d.log.Printf("connection from %s denied: %v", raw.RemoteAddr(), err)
	}
}
