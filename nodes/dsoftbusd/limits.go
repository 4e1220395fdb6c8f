package dsoftbusd

import (
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/protocol/pk"
)

// Limits bound what peers, strangers and local programs can cost. Sections are those of the wire contract.
type Limits struct {
	PK pk.Limits // section 3

	Strangers  int           // unpaired devices remembered, least recently heard evicted (section 1)
	Endpoints  int           // source addresses kept of each device (section 1)
	PeerExpiry time.Duration // silence after which a device is forgotten (section 1)

	Handshakes       int           // unfinished handshakes; one more is closed (section 2)
	HandshakeTimeout time.Duration // from the connection to the last handshake message (section 2)
	PingAfter        time.Duration // silence after which a ping is sent (section 2)
	DeadAfter        time.Duration // silence after which a session is dead (section 2)

	ReadAhead      int           // requests of one session taken in beyond the one being served (section 3)
	ResolveTimeout time.Duration // for the local package service to name a file; then the answer is IO
	Programs       int           // local programs connected at a time; more wait in the socket's backlog
}

// DefaultLimits are the contract's numbers where it has one.
func DefaultLimits() Limits {
	return Limits{
		PK:               pk.DefaultLimits(),
		Strangers:        16,
		Endpoints:        4,
		PeerExpiry:       5 * time.Second,
		Handshakes:       16,
		HandshakeTimeout: 5 * time.Second,
		PingAfter:        time.Second,
		DeadAfter:        3 * time.Second,
		ReadAhead:        32,
		// Below DeadAfter, so that a stuck package service shows as IO and not as a lost session.
		ResolveTimeout: 2 * time.Second,
		Programs:       32,
	}
}

// Validate reports the first limit that nothing could work with.
func (l Limits) Validate() error {
	if err := l.PK.Validate(); err != nil {
		return err
	}
	if l.Strangers < 0 || l.Endpoints < 1 || l.Handshakes < 1 || l.ReadAhead < 1 || l.Programs < 1 {
		return errors.New("a limit that counts something is below 1")
	}
	if l.PeerExpiry <= 0 || l.HandshakeTimeout <= 0 || l.PingAfter <= 0 || l.ResolveTimeout <= 0 {
		return errors.New("a limit on time is not above 0")
	}
	if l.DeadAfter <= l.PingAfter {
		return fmt.Errorf("a session dies after %s, before its first ping after %s", l.DeadAfter, l.PingAfter)
	}
	return nil
}

// String is the form printed at the start.
func (l Limits) String() string {
	return fmt.Sprintf("%s read-ahead=%d resolve-timeout=%s strangers=%d endpoints=%d peer-expiry=%s handshakes=%d "+
		"handshake-timeout=%s ping-after=%s dead-after=%s programs=%d",
		l.PK, l.ReadAhead, l.ResolveTimeout, l.Strangers, l.Endpoints, l.PeerExpiry, l.Handshakes,
		l.HandshakeTimeout, l.PingAfter, l.DeadAfter, l.Programs)
}
