package dsoftbusd

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/session"
)

// peers is what was heard of other devices. Paired ones have entries of their own, so strangers can neither evict nor
// delay them.
type peers struct {
	id     string                // this device's
	key    [session.KeySize]byte // this device's
	limits Limits

	mu        sync.Mutex
	paired    map[string]*pairedPeer
	strangers []sighting // least recently heard first, at most limits.Strangers
}

// pairedPeer is one device of the pairing list.
type pairedPeer struct {
	device.Pairing
	wake chan struct{} // holds one: there is something new for the dialler
	seat chan struct{} // holds one element while there is a session

	// The rest is guarded by peers.mu.
	seen   sighting
	places endpoints
	// The endpoint of the last handshake that succeeded. Lies are heard from other addresses and must not evict it.
	proven netip.AddrPort
	// The next announce is to be answered at once: the peer may know nothing of us.
	answer bool
}

// sighting is what announces said of a device. Its zero value is a device not heard of.
type sighting struct {
	id        string
	last      time.Time
	addresses []netip.Addr // where announces of a stranger came from; latest first
	port      uint16       // the latest announced
	services  []string     // the latest announced
}

// fresh says whether the device counts as heard of at now.
func (s *sighting) fresh(now time.Time, limits Limits) bool {
	return !s.last.IsZero() && now.Sub(s.last) <= limits.PeerExpiry
}

func newPeers(id string, key [session.KeySize]byte, pairings []device.Pairing, limits Limits) *peers {
	p := &peers{id: id, key: key, limits: limits, paired: make(map[string]*pairedPeer, len(pairings))}
	for _, pairing := range pairings {
		p.paired[pairing.ID] = &pairedPeer{Pairing: pairing, wake: make(chan struct{}, 1), seat: make(chan struct{}, 1), seen: sighting{id: pairing.ID}}
	}
	return p
}

// verdict is what an announce turned out to be.
type verdict int

const (
	own        verdict = iota // this device's own, or of someone who uses its id
	stranger                  // of an unpaired device
	mismatched                // of a paired device's id with another key; dropped
	known                     // of a paired device that had been heard of
	learned                   // of a paired device that had not, or not lately
)

// hear takes in one announce. peer is the device it is of, if that is known or learned; answer says whether it should be
// answered with an announce at once.
func (p *peers) hear(a nxsb.Announce, from netip.Addr, now time.Time) (v verdict, peer *pairedPeer, answer bool) {
	if a.DeviceID == p.id || a.Key == p.key {
		return own, nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	peer = p.paired[a.DeviceID]
	if peer == nil {
		p.hearStranger(a, from, now)
		return stranger, nil, false
	}
	if a.Key != peer.Key {
		return mismatched, nil, false
	}
	v = known
	if !peer.seen.fresh(now, p.limits) {
		v = learned
		peer.places = endpoints{}
		peer.answer = true
	}
	peer.seen.note(a, now)
	if a.Port != 0 && reachable(from) {
		peer.places.hear(netip.AddrPortFrom(from, a.Port), now, peer.proven, p.limits.Endpoints, p.limits.PeerExpiry)
	}
	answer, peer.answer = peer.answer, false
	return v, peer, answer
}

func (p *peers) hearStranger(a nxsb.Announce, from netip.Addr, now time.Time) {
	if p.limits.Strangers == 0 {
		return
	}
	s := sighting{id: a.DeviceID}
	if i := slices.IndexFunc(p.strangers, func(s sighting) bool { return s.id == a.DeviceID }); i >= 0 {
		if p.strangers[i].fresh(now, p.limits) {
			s = p.strangers[i]
		}
		p.strangers = slices.Delete(p.strangers, i, i+1)
	} else if len(p.strangers) >= p.limits.Strangers {
		p.strangers = slices.Delete(p.strangers, 0, 1)
	}
	s.note(a, now)
	if a.Port != 0 && reachable(from) {
		s.addresses = slices.DeleteFunc(s.addresses, func(known netip.Addr) bool { return known == from })
		s.addresses = slices.Insert(s.addresses, 0, from)
		s.addresses = s.addresses[:min(len(s.addresses), p.limits.Endpoints)]
	}
	p.strangers = append(p.strangers, s)
}

// note takes in what an announce says.
func (s *sighting) note(a nxsb.Announce, now time.Time) {
	s.last, s.port, s.services = now, a.Port, a.Services
}

// reachable reports whether something could be sent to an address.
func reachable(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() }

// poke wakes the peer's dialler.
func (p *pairedPeer) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// endpoints gives where to dial a peer, the proven endpoint first, then the latest heard. There are none when the
// peer's entry has expired.
func (p *peers) endpoints(peer *pairedPeer, now time.Time) []place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !peer.seen.fresh(now, p.limits) {
		return nil
	}
	list := slices.Clone(peer.places.places)
	if i := peer.places.index(peer.proven); i > 0 {
		proven := list[i]
		list = slices.Insert(slices.Delete(list, i, i+1), 0, proven)
	}
	return list
}

// dial notes that an endpoint of a peer is being dialled, or is no longer; failed says that it was in vain.
func (p *peers) dial(peer *pairedPeer, endpoint netip.AddrPort, dialling, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer.places.dial(endpoint, dialling, failed)
}

// prove notes that the peer itself answered at an endpoint.
func (p *peers) prove(peer *pairedPeer, endpoint netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer.proven = endpoint
}

// lost notes that the session with a peer has ended: its next announce may be the first of a new life.
func (p *peers) lost(peer *pairedPeer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer.answer = true
}

// status tells whether a device is paired, and whether one that is not was heard of.
func (p *peers) status(id string, now time.Time) (paired *pairedPeer, heard bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if peer := p.paired[id]; peer != nil {
		return peer, true
	}
	return nil, slices.ContainsFunc(p.strangers, func(s sighting) bool { return s.id == id && s.fresh(now, p.limits) })
}

// list gives every paired device, heard of or not, then the strangers, each sorted by id. up says whether a device has a
// session.
func (p *peers) list(now time.Time, up func(id string) bool) []localapi.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]localapi.Peer, 0, len(p.paired)+len(p.strangers))
	for _, id := range slices.Sorted(maps.Keys(p.paired)) {
		seen := p.paired[id].seen
		for _, place := range p.paired[id].places.places {
			seen.addresses = append(seen.addresses, place.endpoint.Addr())
		}
		entry := p.entry(seen, now)
		entry.Paired = true
		entry.Session = up(id)
		list = append(list, entry)
	}
	paired := len(list)
	for _, s := range p.strangers {
		if s.fresh(now, p.limits) {
			list = append(list, p.entry(s, now))
		}
	}
	slices.SortFunc(list[paired:], func(a, b localapi.Peer) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (p *peers) entry(s sighting, now time.Time) localapi.Peer {
	entry := localapi.Peer{ID: s.id, Addresses: []string{}, Services: []string{}, AgeMS: -1}
	if !s.fresh(now, p.limits) {
		return entry
	}
	entry.Port = s.port
	entry.Services = append(entry.Services, s.services...)
	entry.AgeMS = now.Sub(s.last).Milliseconds()
	for _, address := range s.addresses {
		if a := address.String(); !slices.Contains(entry.Addresses, a) {
			entry.Addresses = append(entry.Addresses, a)
		}
	}
	return entry
}
