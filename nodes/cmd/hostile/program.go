package hostile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs"
)

const (
	// stuffing is the size of a request of again, in bytes: 32 of them, as many as may be on the way, fill the buffers on
	// the way to a peer that does not read, if the kernels' are small.
	stuffing = 60_000
	// comeBack is how long again waits for a session, on a slow machine too.
	comeBack = 20 * time.Second
)

// again is a local program that sends until dsoftbusd reports its session lost, and asks for another one at once. That must
// be a session that works, and not the one that is ending. How soon it was there at the quickest shows whether the old one
// took its time to end.
func again(ctx context.Context, r *request) (string, error) {
	quickest := comeBack
	for n := range r.count {
		if err := r.stuff(ctx); err != nil {
			return "", fmt.Errorf("session %d of %d: %w", n+1, r.count, err)
		}
		lost := time.Now()
		c, err := r.open(ctx)
		if err != nil {
			return "", fmt.Errorf("after the loss of session %d of %d: %w", n+1, r.count, err)
		}
		quickest = min(quickest, time.Since(lost))
		_, err = c.Stat(ctx, r.path)
		c.Close()
		if err != nil {
			return "", fmt.Errorf("session %d of %d was lost, and the next one that dsoftbusd gave: %w", n+1, r.count, err)
		}
	}
	return fmt.Sprintf("losses=%d quickest_ms=%d", r.count, quickest.Milliseconds()), nil
}

// open asks this machine's dsoftbusd for a session with the peer.
func (r *request) open(ctx context.Context) (*remotefs.Client, error) {
	return remotefs.Dial(ctx, r.socket, r.id, remotefs.Options{Wait: comeBack})
}

// stuff fills the way to the peer until dsoftbusd reports the session lost.
func (r *request) stuff(ctx context.Context) error {
	c, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	errs := make(chan error)
	const senders = 32 // as many requests as dsoftbusd has on the way
	for range senders {
		go func() {
			frame := make([]byte, stuffing)
			var err error
			for err == nil {
				_, err = c.Do(ctx, frame)
			}
			errs <- err
		}()
	}
	for range senders {
		// All of them get the same: that of the client's end.
		err = <-errs
	}
	if !errors.Is(err, &localapi.Error{Code: localapi.CodeSessionLost}) {
		return fmt.Errorf("want a session that is lost: %w", err)
	}
	return nil
}
