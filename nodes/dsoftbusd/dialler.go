package dsoftbusd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/protocol/session"
)

// dialWaits are the waits after failed attempts at an endpoint; the last one stays.
var dialWaits = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, time.Second,
}

const (
	// connectTimeout leaves room for one lost SYN, which is sent again after a second. Waiting longer would be waiting for
	// the kernel's next one, and a new attempt is quicker.
	connectTimeout = 1500 * time.Millisecond
	// hurryInterval is how often an announce may end an endpoint's wait, and
	// dialMost how many attempts a peer's announces can cause in a second,
	// whoever sends them and from wherever: they name whom this device connects
	// to.
	hurryInterval = time.Second
	dialMost      = 8
	// headStart is how long an endpoint is tried alone before the next one is tried beside it.
	headStart = 300 * time.Millisecond
)

// dialler keeps one session with a peer that this device dials. Any of the peer's endpoints may be a lie, and a lie may
// refuse, swallow packets or stall the handshake. So the endpoints are tried in turn, each on its own schedule and none
// waiting for another's failure longer than the head start.
type dialler struct {
	d       *daemon
	peer    *pairedPeer
	targets map[netip.AddrPort]*target // of the endpoints that the peer has now
	started time.Time                  // of the latest attempt
	begun   [dialMost]time.Time        // when the last attempts began, in a ring
	attempt int                        // attempts begun; begun[attempt%dialMost] is the oldest
	lost    time.Time                  // when the latest session ended
}

// target is an endpoint and how it went there.
type target struct {
	failures int
	due      time.Time // of the next attempt
	tried    time.Time // when the last attempt ended
	hurried  time.Time // when an announce last ended the wait
	running  *attempt  // nil: none
}

// attempt is one attempt at an endpoint. link and err are its result.
type attempt struct {
	endpoint netip.AddrPort
	cancel   context.CancelFunc
	link     *link
	err      error
}

// dialLoop keeps a session with the peer for as long as the peer is heard of, until ctx ends.
func (d *daemon) dialLoop(ctx context.Context, peer *pairedPeer) {
	l := dialler{d: d, peer: peer, targets: make(map[netip.AddrPort]*target)}
	for {
		won := l.connect(ctx)
		if won == nil {
			return
		}
		came := won.link.run(ctx)
		if target := l.targets[won.endpoint]; target != nil && !came {
			target.failed() // not let in
		} else if came {
			l.restart()
		}
	}
}

// connect makes attempts until one gives a session, or ctx ends, which gives nil. No attempt is left when it returns.
func (l *dialler) connect(ctx context.Context) *attempt {
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	results := make(chan *attempt)
	for {
		next := l.next(time.Now(), func(a *attempt) {
			var trying context.Context
			trying, a.cancel = context.WithCancel(ctx)
			attempts.Go(func() { l.try(trying, a, results) })
		})
		timer := time.NewTimer(next)
		select {
		case a := <-results:
			timer.Stop()
			if l.ended(a) {
				return a
			}
		case <-timer.C:
		case <-l.peer.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// try makes an attempt and hands over its result, or drops it if nobody wants it any more.
func (l *dialler) try(ctx context.Context, a *attempt, results chan<- *attempt) {
	defer a.cancel()
	a.link, a.err = l.d.dial(ctx, l.peer, a.endpoint)
	select {
	case results <- a:
	case <-ctx.Done():
		if a.link != nil {
			a.link.raw.Close()
		}
	}
}

// next starts the attempt that is due, if any, and gives the time until there is something to do again.
func (l *dialler) next(now time.Time, start func(*attempt)) time.Duration {
	places := l.d.peers.endpoints(l.peer, now)
	l.follow(places, now)
	// Whichever has waited longest comes first, else one that fails fast would take every turn.
	slices.SortStableFunc(places, func(a, b place) int {
		return l.targets[a.endpoint].due.Compare(l.targets[b.endpoint].due)
	})
	wait := time.Hour // with nothing to dial, an announce is what to wait for
	for _, place := range places {
		t := l.targets[place.endpoint]
		if t.running != nil {
			continue
		}
		oldest := &l.begun[l.attempt%dialMost]
		// No two attempts come closer than the shortest wait, however many endpoints are announced.
		free := latest(t.due, l.started.Add(dialWaits[0]), l.lost.Add(dialWaits[0]), oldest.Add(time.Second))
		if l.busy() {
			free = latest(free, l.started.Add(headStart))
		}
		if left := free.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		*oldest, l.started = now, now
		l.attempt++
		t.running = &attempt{endpoint: place.endpoint}
		l.d.peers.dial(l.peer, place.endpoint, true, false)
		start(t.running)
	}
	return wait
}

// busy says whether an attempt is going on.
func (l *dialler) busy() bool {
	for _, t := range l.targets {
		if t.running != nil {
			return true
		}
	}
	return false
}

// follow makes the targets those of the places. New ones are due at once, and one whose peer has announced itself from
// there since the last attempt is due soon. Attempts at endpoints that have gone, as they do when the peer's entry expires,
// are given up.
func (l *dialler) follow(places []place, now time.Time) {
	for endpoint, t := range l.targets {
		if !slices.ContainsFunc(places, func(p place) bool { return p.endpoint == endpoint }) {
			if t.running != nil {
				t.running.cancel()
			}
			delete(l.targets, endpoint)
		}
	}
	for _, p := range places {
		t := l.targets[p.endpoint]
		if t == nil {
			l.targets[p.endpoint] = &target{due: now}
		} else if p.last.After(t.tried) {
			t.hurry(now)
		}
	}
}

// ended takes in the result of an attempt. It tells whether there is a session now.
func (l *dialler) ended(a *attempt) bool {
	if a.link != nil {
		for endpoint, t := range l.targets {
			t.running = nil // connect gives the others up
			l.d.peers.dial(l.peer, endpoint, false, false)
		}
		return true
	}
	l.d.peers.dial(l.peer, a.endpoint, false, a.link == nil)
	t := l.targets[a.endpoint]
	if t == nil || t.running != a {
		return false // of an endpoint that has gone
	}
	if t.failures == 0 && l.d.markers.allow("dial "+l.peer.ID) {
		l.d.log.Printf("dial %s: %v; trying on", l.peer.ID, a.err)
	}
	t.running = nil
	t.failed()
	return false
}

func (t *target) failed() {
	t.tried = time.Now()
	t.due = t.tried.Add(dialWaits[min(t.failures, len(dialWaits)-1)])
	t.failures++
}

// hurry ends the wait for the next attempt, though never below the shortest, and not more often than each hurryInterval:
// the peer has just announced itself there, but an announce that anybody can repeat shall not decide how often is dialled.
func (t *target) hurry(now time.Time) {
	soon := t.tried.Add(dialWaits[0])
	if t.running != nil || !t.due.After(now) || !soon.Before(t.due) || now.Sub(t.hurried) < hurryInterval {
		return
	}
	t.due, t.hurried = soon, now
}

// restart begins all schedules anew, at the end of a session.
func (l *dialler) restart() {
	clear(l.targets)
	l.lost = time.Now()
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}

// dial makes one attempt at one endpoint.
func (d *daemon) dial(ctx context.Context, peer *pairedPeer, endpoint netip.AddrPort) (*link, error) {
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	raw, err := d.network.Dial(connecting, endpoint)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	sess, err := d.handshake(ctx, raw, func(raw net.Conn) (*session.Conn, error) {
		return session.Initiate(raw, session.Config{Static: d.static(), DeviceID: d.id, KeyLog: d.keyLog}, peer.Key)
	})
	if err != nil {
		return nil, fmt.Errorf("handshake with %s: %w", endpoint, err)
	}
	d.peers.prove(peer, endpoint)
	return d.newLink(peer, sess), nil
}
