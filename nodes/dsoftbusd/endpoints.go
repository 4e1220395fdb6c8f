package dsoftbusd

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// apart is how far apart two announces from one endpoint are that count as
	// two. A datagram that the network doubles counts once.
	apart = 50 * time.Millisecond
	// countMost is where counting ends. The device is heard that often within
	// half a second of its start; with more, those who invent few endpoints and
	// repeat them would outrank it for long.
	countMost = 4
	// memoryMost bounds the endpoints that are remembered without having a
	// place: two such generations, some 100 bytes each.
	memoryMost = 2048
)

// endpoints holds where a paired device was heard from. Anyone can send a
// device's true announce from invented addresses, a new one each time. The
// device itself repeats its announce from where it is. So few places are kept,
// and the endpoints that were heard most often have them; of those heard equally
// often, one that was dialled in vain makes room. An endpoint being dialled keeps
// its place until the attempt has ended.
//
// It is no place for locks: peers guards it.
type endpoints struct {
	places []place // latest heard first
	// Endpoints without a place, by how often they were heard: the present
	// generation and the one before.
	fresh, older map[netip.AddrPort]hearings
}

// place is one endpoint of a device that can be dialled.
type place struct {
	endpoint netip.AddrPort
	hearings
	dialling bool
	failed   bool // the last attempt there has
}

// hearings is how often an endpoint was heard.
type hearings struct {
	count   int       // announces, each at least apart from the one counted before
	counted time.Time // the last that counted
	last    time.Time // the last
}

func (h *hearings) note(now time.Time) {
	h.last = now
	if h.count == 0 || now.Sub(h.counted) >= apart {
		h.count, h.counted = min(h.count+1, countMost), now
	}
}

// hear takes in an announce from an endpoint. keep is an endpoint that is not
// evicted, most how many places there are, and expiry after how long a silent
// one is free again.
func (e *endpoints) hear(endpoint netip.AddrPort, now time.Time, keep netip.AddrPort, most int, expiry time.Duration) {
	e.places = slices.DeleteFunc(e.places, func(p place) bool {
		return !p.dialling && p.endpoint != keep && now.Sub(p.last) > expiry
	})
	p := place{endpoint: endpoint}
	if i := e.index(endpoint); i >= 0 {
		p = e.places[i]
		e.places = slices.Delete(e.places, i, i+1)
	} else {
		p.hearings = e.recall(endpoint, now, expiry)
	}
	p.note(now)
	if len(e.places) < most && (p.count > 1 || most == 1 || e.heardOnce() < most-1) {
		e.take(p)
		return
	}
	if i := e.weakest(keep, most); i >= 0 && (e.places[i].weaker(p) || most == 1) {
		e.places = slices.Delete(e.places, i, i+1)
		e.take(p)
		return
	}
	e.remember(p)
}

func (e *endpoints) index(endpoint netip.AddrPort) int {
	return slices.IndexFunc(e.places, func(p place) bool { return p.endpoint == endpoint })
}

// heardOnce counts the places of endpoints that were heard once. They never
// have all of the places: all could be dialled, in vain, when the device is
// heard for the second time.
func (e *endpoints) heardOnce() (n int) {
	for _, p := range e.places {
		if p.count == 1 {
			n++
		}
	}
	return n
}

// weaker reports whether a place makes room for another endpoint.
func (p place) weaker(than place) bool {
	return p.count < than.count || p.count == than.count && p.failed && than.count > 1
}

// weakest returns the place that was heard least often, of several one that was
// dialled in vain, and of several of these the one not heard for longest; -1 where none may be evicted. With a single place keep
// may be evicted, too: it can be an old address.
func (e *endpoints) weakest(keep netip.AddrPort, most int) int {
	weakest := -1
	for i, p := range e.places {
		if p.dialling || p.endpoint == keep && most > 1 {
			continue
		}
		if weakest < 0 || p.count < e.places[weakest].count ||
			p.count == e.places[weakest].count && (p.failed || !e.places[weakest].failed) {
			weakest = i
		}
	}
	return weakest
}

func (e *endpoints) take(p place) {
	delete(e.fresh, p.endpoint)
	delete(e.older, p.endpoint)
	e.places = slices.Insert(e.places, 0, p)
}

// recall returns how often an endpoint without a place was heard lately.
func (e *endpoints) recall(endpoint netip.AddrPort, now time.Time, expiry time.Duration) hearings {
	h, there := e.fresh[endpoint]
	if !there {
		h = e.older[endpoint]
	}
	if now.Sub(h.last) > expiry {
		return hearings{}
	}
	return h
}

func (e *endpoints) remember(p place) {
	if len(e.fresh) >= memoryMost {
		e.older, e.fresh = e.fresh, nil
	}
	if e.fresh == nil {
		e.fresh = map[netip.AddrPort]hearings{}
	}
	e.fresh[p.endpoint] = p.hearings
}

// dial notes that an endpoint is being dialled, or is no longer; failed says that
// it was in vain.
func (e *endpoints) dial(endpoint netip.AddrPort, dialling, failed bool) {
	if i := e.index(endpoint); i >= 0 {
		e.places[i].dialling, e.places[i].failed = dialling, failed
	}
}
