package dsoftbusd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// link is one session with one paired device: server to its requests, way for the requests of local programs.
type link struct {
	d    *daemon
	peer *pairedPeer
	sess *session.Conn
	raw  *stream
	up   bool // guarded by links.mu

	end      context.CancelCauseFunc // ends the link; the first cause counts
	ctx      context.Context         // ends with the link
	born     time.Time               // carries the monotonic clock: the wall clock may be set at any time
	heard    atomic.Int64            // when the last record came, nanoseconds after born
	queue    chan work               // the peer's requests, in order
	calls    *calls                  // this side's requests
	received chan struct{}           // closed when no further record will be taken in
	done     chan struct{}           // closed when nothing of the link is left
}

// work is a request of the peer as far as it can be judged without state. The frame itself is not kept: a peer could fill
// the queue with large ones.
type work struct {
	request pk.Request
	status  pk.Status
	head    [4]byte // the frame's first bytes, which the answer echoes
	headLen int
}

// Why a link ends, beside what the connection itself reports.
var (
	errReplaced = errors.New("replaced by a newer session")
	errSilent   = errors.New("peer is silent")
)

// peerClosed is the peer's own reason.
type peerClosed string

// Error quotes the reason: the peer wrote it.
func (r peerClosed) Error() string { return fmt.Sprintf("closed by the peer: %.200q", string(r)) }

// goodbyeTime bounds the last record of a session. Several sessions say it side by side, and the whole daemon has a second.
const goodbyeTime = 200 * time.Millisecond

func (d *daemon) newLink(peer *pairedPeer, s shaken) *link {
	return &link{
		d:        d,
		peer:     peer,
		sess:     s.Conn,
		raw:      s.raw,
		born:     time.Now(),
		queue:    make(chan work, d.limits.ReadAhead-1), // one more is in the receiver's hand
		calls:    newCalls(s.Conn),
		received: make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// run is the session's life. It returns when nothing is left of it, every handle freed. came says whether the peer has
// sent a record at all.
func (l *link) run(ctx context.Context) (came bool) {
	defer close(l.done)
	l.ctx, l.end = context.WithCancelCause(ctx)
	if old := l.d.links.adopt(l); old != nil {
		// A device has one session. That a new one was authenticated says that the old one is dead.
		old.end(errReplaced)
		<-old.done
	}
	l.heard.Store(int64(time.Since(l.born)))
	var running sync.WaitGroup
	running.Go(l.serve)
	running.Go(l.keepAlive)
	running.Go(l.closeOrphans)
	running.Go(l.hangUp)
	came, err := l.receive()
	close(l.received)
	l.end(err)
	running.Wait()
	l.d.links.remove(l)
	if cause := context.Cause(l.ctx); came {
		l.d.peers.lost(l.peer)
		l.d.markers.print("dsoftbusd: session lost %s", l.peer.ID)
		l.d.log.Printf("session with %s ended: %v", l.peer.ID, cause)
	} else if ctx.Err() == nil {
		l.d.log.Printf("session with %s ended before its first record: %v", l.peer.ID, cause)
	}
	return came
}

// receive takes in records until the session ends, and gives why.
func (l *link) receive() (came bool, err error) {
	for ; ; came = true {
		l.raw.SetReadDeadline(time.Now().Add(l.d.limits.DeadAfter))
		channel, payload, err := l.sess.Recv()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return came, errSilent
		}
		if err != nil {
			return came, err
		}
		l.heard.Store(int64(time.Since(l.born)))
		if !came {
			l.d.links.comeUp(l)
			l.d.markers.print("dsoftbusd: cross-vm session ok %s", l.peer.ID)
		}
		if err := l.take(channel, payload); err != nil {
			return true, err
		}
	}
}

func (l *link) take(channel uint32, payload []byte) error {
	if channel == session.ChannelControl {
		return l.control(payload)
	}
	answered, err := l.calls.answer(payload)
	if answered || err != nil {
		return err
	}
	w := work{}
	w.headLen = copy(w.head[:], payload)
	w.request, w.status = pk.ParseRequest(payload, l.authenticated(), l.d.limits.PK)
	select {
	case l.queue <- w:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

func (l *link) control(payload []byte) error {
	c, err := session.ParseControl(payload)
	if err != nil {
		return err
	}
	switch c.Kind {
	case session.Ping:
		return l.sess.Send(session.ChannelControl, session.AppendPong(nil))
	case session.CloseSession:
		return peerClosed(c.Reason)
	}
	return nil
}

// authenticated says whether the peer may use the package service here.
func (l *link) authenticated() bool { return l.peer.Allows(device.ServicePackageFS) }

// serve answers the peer's requests in order, and frees its handles at the end.
func (l *link) serve() {
	s := newServer(l.d.packages, l.d.limits, l.d.log)
	defer s.release()
	for {
		select {
		case w := <-l.queue:
			frame, ok := s.answer(l.ctx, w)
			if l.ctx.Err() != nil {
				return // the answer may say no more than that
			}
			if err := l.sess.Send(session.ChannelPackageFS, frame); err != nil {
				l.end(err)
				return
			}
			if ok {
				l.d.markers.printOnce("dsoftbusd: remote packagefs served")
			}
		case <-l.ctx.Done():
			return
		}
	}
}

// keepAlive sends a ping at once, since the peer waits for a first record to know that it was let in, and another whenever
// no record came for the limit's time. That a session is dead shows where records are received.
func (l *link) keepAlive() {
	wait := time.Duration(0)
	for pause(l.ctx, wait) {
		silent := time.Since(l.born) - time.Duration(l.heard.Load())
		if wait == 0 || silent >= l.d.limits.PingAfter {
			if err := l.sess.Send(session.ChannelControl, session.AppendPing(nil)); err != nil {
				l.end(err)
				return
			}
			silent = 0
		}
		wait = l.d.limits.PingAfter - silent
	}
}

// hangUp waits for the end, tells the peer why if that is of use to it, and closes the connection.
func (l *link) hangUp() {
	<-l.ctx.Done()
	if reason := goodbye(context.Cause(l.ctx)); reason != "" {
		// A peer that does not read, or a write that waits for one, must not hold up the end.
		enough := time.AfterFunc(goodbyeTime, func() { l.raw.Close() })
		l.sess.Send(session.ChannelControl, session.AppendClose(nil, reason))
		enough.Stop()
	}
	l.raw.Close()
}

// goodbye is what to tell the peer of the end: nothing if it is gone, knows already, or somebody else spoke in its place.
func goodbye(cause error) string {
	switch {
	case errors.Is(cause, errShutdown), errors.Is(cause, errReplaced), errors.Is(cause, errSilent),
		errors.Is(cause, errTooManyHandles), errors.Is(cause, session.ErrControl), errors.Is(cause, session.ErrRecordLength):
		return cause.Error()
	}
	return ""
}
