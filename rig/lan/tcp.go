package lan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MaxAnswer is how much of an answer TCP reads, in bytes: more than any answer a scenario compares, and little enough to be held in memory.
const MaxAnswer = 1 << 20

// TCP connects to a machine from the rig's own address, sends, and returns what comes back until the peer closes, nothing has come for
// Config.Idle, ctx's deadline is over, or MaxAnswer bytes have come. It does not close its sending half meanwhile: that would show the peer an end
// which a peer that merely waits never sees.
//
// An error means that the connection was not made, that the bytes could not be sent in time, or that ctx was cancelled; what came until then is
// returned with it. That the peer resets the connection is an answer, not an error: it goes to Config.Note, like every other end
// but an ordinary close.
func (l *LAN) TCP(ctx context.Context, to netip.AddrPort, send []byte) (answer []byte, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: l.Addr().AsSlice()}, KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, cause(ctx, err))
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	note := func(format string, args ...any) {
		l.cfg.Note(fmt.Sprintf("tcp %s: %s, with %d bytes of answer", to, fmt.Sprintf(format, args...), len(answer)))
	}

	if err := c.SetWriteDeadline(time.Now().Add(l.cfg.Idle)); err != nil {
		return nil, fmt.Errorf("send to %s: %w", to, err)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("send to %s: %w", to, context.Cause(ctx))
	}
	n, err := c.Write(send)
	reset := isReset(err)
	if err != nil && !reset {
		return nil, fmt.Errorf("send to %s: %d of %d bytes: %w", to, n, len(send), cause(ctx, err))
	}
	if reset {
		// The peer has closed while being talked to. What it said before is still to be read.
		note("reset by the peer after %d of %d bytes sent", n, len(send))
	}

	buf := make([]byte, 32<<10)
	for {
		if err := c.SetReadDeadline(time.Now().Add(l.cfg.Idle)); err != nil {
			return answer, fmt.Errorf("read the answer of %s: %w", to, err)
		}
		if ctx.Err() == nil { // else the deadline just set is not the one that counts
			n, err = c.Read(buf[:min(len(buf), MaxAnswer-len(answer))])
			answer = append(answer, buf[:n]...)
		} else {
			err = os.ErrDeadlineExceeded
		}
		switch {
		case err == nil && len(answer) < MaxAnswer:
			continue
		case err == nil:
			note("answer cut short")
		case errors.Is(err, io.EOF):
		case isReset(err):
			if !reset {
				note("reset by the peer")
			}
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
			note("still open after %v of silence", l.cfg.Idle)
		case errors.Is(err, os.ErrDeadlineExceeded) && errors.Is(ctx.Err(), context.DeadlineExceeded):
			note("still open at the deadline")
		default:
			return answer, fmt.Errorf("read the answer of %s: %w", to, cause(ctx, err))
		}
		return answer, nil
	}
}

func isReset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// cause returns why ctx ended when it has, since err then only shows its effect.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
