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
	"dsoftbus-rig/nodes/quickconn"
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
	told bool // the markers tell of this session

	end      context.CancelCauseFunc // ends the link; the first cause counts
	ctx      context.Context         // ends with the link
	born     time.Time               // carries the monotonic clock: the wall clock may be set at any time
	heard    atomic.Int64            // when the last record came, nanoseconds after born
	queue    chan work               // the peer's requests, in order
	calls    *calls                  // this side's requests
	received chan struct{}           // closed when no further record will be taken in
}

// work is a request of the peer as far as it can be judged without state. The frame itself is not kept: a peer could fill
// the queue with large ones.
type work struct {
	request pk.Request
	status  pk.Status
	head    [4]byte // the frame's first bytes, which the answer echoes
	headLen int
}

// waits says whether the answer may take long: the package service is asked.
func (w *work) waits() bool {
	return w.status == pk.OK && (w.request.Op == pk.Stat || w.request.Op == pk.Open)
}

// Why a link ends, beside what the connection itself reports.
var (
	errReplaced = errors.New("replaced by a newer session")
	errSilent   = errors.New("peer is silent")
	errTaken    = errors.New("the session before it does not end")
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
	}
}

// run is the session's life. It returns when nothing is left of it, every handle freed. came says whether the peer has
// sent a record at all.
func (l *link) run(ctx context.Context) (came bool) {
	l.ctx, l.end = context.WithCancelCause(ctx)
	if old := l.d.links.adopt(l); old != nil {
		// A device has one session. That a new one was authenticated says that the old one is dead.
		old.end(errReplaced)
	}
	if err := l.takeSeat(); err != nil {
		l.end(err)
		l.raw.Close()
		l.d.links.remove(l)
		if err == errTaken {
			l.d.log.Printf("session with %s: %v", l.peer.ID, err)
		}
		return false
	}
	defer func() { <-l.peer.seat }()
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
	cause := context.Cause(l.ctx)
	if came {
		l.d.peers.lost(l.peer)
	}
	if l.told {
		l.d.markers.print("dsoftbusd: session lost %s", l.peer.ID)
		l.d.log.Printf("session with %s ended: %v", l.peer.ID, cause)
	} else if !came && ctx.Err() == nil && l.d.markers.allow("session "+l.peer.ID) {
		l.d.log.Printf("session with %s ended before its first record: %v", l.peer.ID, cause)
	}
	return came
}

// takeSeat waits until the session before this one has freed all it held. It gives up when a newer session comes, so that
// there is one that waits and no more, however fast a peer makes them.
func (l *link) takeSeat() error {
	patience := time.NewTimer(l.d.limits.HandshakeTimeout)
	defer patience.Stop()
	select {
	case l.peer.seat <- struct{}{}:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-patience.C:
		return errTaken
	}
}

// inOneGo, in bytes, is more than a quarter of what remotefs has on the way, after which it asks for more, and less than
// half: so the server still has requests when the next ones go out.
const inOneGo = 384 << 10

// receive takes in records until the session ends, and gives why.
func (l *link) receive() (came bool, err error) {
	others, err := quickconn.NewYielder()
	if err != nil {
		return false, err
	}
	defer others.Close()
	unseen := 0 // bytes taken in since others could last run
	for ; ; came = true {
		channel, payload, err := l.hear()
		if err != nil {
			return came, err
		}
		// With one processor nobody else runs until there is nothing left to receive. What came together goes on together,
		// which costs the programs fewer wake-ups, but not so much of it that the peer gets no new requests meanwhile: those
		// wait in the programs' sockets.
		if unseen += len(payload); unseen >= inOneGo {
			unseen = 0
			others.Yield()
		}
		l.heard.Store(int64(time.Since(l.born)))
		if !came {
			l.d.links.comeUp(l)
			if l.told = l.d.markers.allow("session " + l.peer.ID); l.told {
				l.d.markers.print("dsoftbusd: cross-vm session ok %s", l.peer.ID)
			}
		}
		if err := l.take(channel, payload); err != nil {
			return true, err
		}
	}
}

// silentTurns is how many waits in a row without a whole record make a peer dead, DeadAfter all together.
//
// One wait would end at once after a standstill of this side, of its machine or its program, which is no silence of the peer's: what it has sent meanwhile was not
// looked at yet, and if it stood still as well, as for a debugger, it needs a moment to speak. Of several waits a standstill, however long, ends one.
const silentTurns = 3

// hear waits for the peer's next record.
func (l *link) hear() (channel uint32, payload []byte, err error) {
	if l.sess.Ready() {
		return l.sess.Recv()
	}
	for range silentTurns {
		l.raw.SetReadDeadline(time.Now().Add(l.d.limits.DeadAfter / silentTurns))
		channel, payload, err = l.sess.Recv()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return channel, payload, err
		}
	}
	return 0, nil, errSilent
}

func (l *link) take(channel uint32, payload []byte) error {
	if channel == session.ChannelControl {
		return l.control(payload)
	}
	answered, err := l.calls.answer(payload)
	if answered || err != nil {
		return err
	}
	if pk.Answers(payload) {
		// As a request it would be answered, and two peers could go on answering each other without end.
		return errUnasked
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

// batchSize bounds, in bytes, the records that wait to be sent together, less the last of them. It is a few of 32 KiB: so
// many that the cost of a write no longer shows, so few that the peer decrypts the first while the next are encrypted.
const batchSize = 128 << 10

// serve answers the peer's requests in order, and frees its handles at the end.
func (l *link) serve() {
	s := newServer(l.d.packages, l.d.limits, l.d.log)
	s.mayComplain = func() bool { return l.d.markers.allow("packages " + l.peer.ID) }
	defer s.release()
	var out answers
	for {
		w, more := l.waiting()
		// Nothing answered waits for a request that is still to come, nor for the package service.
		if !more || w.waits() || out.Len() >= batchSize {
			if err := l.sendAnswers(&out); err != nil {
				l.end(err)
				return
			}
		}
		if !more {
			select {
			case w = <-l.queue:
			case <-l.ctx.Done():
				return
			}
		}
		frame, ok := s.answer(l.ctx, w, out.Begin())
		if l.ctx.Err() != nil {
			return // the answer may say no more than that
		}
		out.End(session.ChannelPackageFS, frame) // no answer is too long: the limits were checked
		out.ok = out.ok || ok
	}
}

// waiting gives the next request if there is one already.
func (l *link) waiting() (work, bool) {
	select {
	case w := <-l.queue:
		return w, true
	default:
		return work{}, false
	}
}

// answers are answers on their way out.
type answers struct {
	session.Batch
	ok bool // one of them says OK
}

func (l *link) sendAnswers(out *answers) error {
	if err := l.sess.SendBatch(&out.Batch); err != nil {
		return err
	}
	if out.ok {
		l.d.markers.printOnce("dsoftbusd: remote packagefs served")
	}
	out.ok = false
	return nil
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
		errors.Is(cause, errTooManyHandles), errors.Is(cause, errUnasked), errors.Is(cause, session.ErrControl), errors.Is(cause, session.ErrRecordLength):
		return cause.Error()
	}
	return ""
}
