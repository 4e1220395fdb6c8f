package hostile

import (
	"context"
	"errors"
	"fmt"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// mute does a whole handshake and sends no record behind it. To the victim that
// is no session yet: it takes no program's request, and ends it like any silent
// one.
func mute(ctx context.Context, r *request) (string, error) {
	p, err := r.handshake(ctx, r.self.Key, r.self.ID, nil)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	reason, took, err := p.ended(deadAfter + slack)
	if err != nil {
		return "", err
	}
	if want := "peer is silent"; reason != want {
		return "", fmt.Errorf("closed with reason %q, want %q", reason, want)
	}
	return fmt.Sprintf("ended_after_ms=%d", took.Milliseconds()), nil
}

// served is the one file that serve has, under every path.
var served = []byte("served\n")

// serve answers what programs of the victim ask this device for, as a dsoftbusd
// does, up to the first CLOSE, which it refuses. It ends when the victim has
// ended the session, or r.time is over.
func serve(ctx context.Context, r *request) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.time, fmt.Errorf("nobody has asked to close a file within %s", r.time))
	defer cancel()
	p, err := r.paired(ctx)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	for requests := 1; ; requests++ {
		frame, err := p.frame()
		if err != nil {
			return "", errors.Join(context.Cause(ctx), err)
		}
		answer, closed := serveOne(frame)
		if err := p.Send(session.ChannelPackageFS, answer); err != nil {
			return "", err
		}
		if closed {
			// The answer is on its way before the end of the connection is.
			return fmt.Sprintf("requests=%d refused=CLOSE", requests), nil
		}
	}
}

// serveOne answers one request. closed says that it is the CLOSE, which is
// refused.
func serveOne(frame []byte) (answer []byte, closed bool) {
	q, status := pk.ParseRequest(frame, true, pk.DefaultLimits())
	if status != pk.OK {
		return pk.AppendReject(nil, frame, status), false
	}
	switch q.Op {
	case pk.Stat:
		return pk.AppendStatResponse(nil, pk.OK, uint64(len(served)), pk.KindFile), false
	case pk.Open:
		return pk.AppendOpenResponse(nil, pk.OK, 1), false
	case pk.Read:
		from := min(int(q.Offset), len(served))
		return pk.AppendReadResponse(nil, pk.OK, served[from:min(from+int(q.Length), len(served))]), false
	}
	return pk.AppendCloseResponse(nil, pk.BadF), true
}
