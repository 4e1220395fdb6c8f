package dsoftbusd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/session"
)

// Config is who the daemon is and what it serves.
type Config struct {
	Device   device.Device
	Pairings []device.Pairing
	Packages packagefsd.Resolver // what is served to peers paired for packagefs
	Limits   Limits
	Markers  io.Writer // the contract's markers, one line a write
	Log      io.Writer // for people: what ended a session, why nobody answers; may be nil
	// KeyLog gets the keys of each session, a line for each (session.Keys), in one write. Whoever debugs has one; nil: nobody gets them.
	KeyLog io.Writer
}

// daemon is what the goroutines of one Run share.
type daemon struct {
	id string
	// A function and not the value: whatever formats an unexported field sees through every method that hides a key, and
	// through pointers, but not into a closure.
	static   func() session.KeyPair
	packages packagefsd.Resolver
	limits   Limits
	network  Network
	announce []byte // the datagram
	peers    *peers
	links    *links
	markers  *markers
	log      *log.Logger
	keyLog   func(session.Keys) // nil: keys are told to nobody

	ready       chan struct{} // closed when the first announce has gone out and the marker says so
	announceNow chan struct{} // holds one: someone is waiting to hear of us
	handshakes  chan struct{} // one element for each unfinished handshake
	programs    chan struct{} // one element for each connected program

	running sync.WaitGroup
}

// errShutdown ends every session when Run's context ends.
var errShutdown = errors.New("shutting down")

// Run is the daemon. It takes over network, serves until ctx ends, then closes every session with a reason and returns nil
// when nothing is left running. An error is about the configuration, and comes before anything was served.
func Run(ctx context.Context, cfg Config, network Network) error {
	d, err := newDaemon(cfg, network)
	if err != nil {
		network.close()
		return err
	}
	d.log.Printf("device %s port %d paired with %d, limits %s", cfg.Device.ID, network.Port, len(cfg.Pairings), cfg.Limits)

	outer := ctx
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(outer))
	defer context.AfterFunc(outer, func() { cancel(errShutdown) })()
	d.running.Go(func() { d.announceLoop(ctx) })
	d.running.Go(func() { d.hearLoop(ctx) })
	d.running.Go(func() { d.acceptSessions(ctx) })
	d.running.Go(func() { d.acceptPrograms(ctx) })
	for _, peer := range d.peers.paired {
		if d.dials(peer.ID) {
			d.running.Go(func() { d.dialLoop(ctx, peer) })
		}
	}
	<-ctx.Done()
	// Accepting and receiving end with their sockets; whatever else waits, waits for ctx too.
	network.close()
	d.running.Wait()
	return nil
}

func newDaemon(cfg Config, network Network) (*daemon, error) {
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("start dsoftbusd: %w", err)
	}
	announce, err := nxsb.Append(nil, nxsb.Announce{
		DeviceID: cfg.Device.ID,
		Port:     network.Port,
		Key:      cfg.Device.Key.Public,
		Services: []string{device.ServicePackageFS},
	})
	if err != nil {
		return nil, fmt.Errorf("start dsoftbusd: announce of this device: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	return &daemon{
		id:          cfg.Device.ID,
		static:      func() session.KeyPair { return cfg.Device.Key },
		packages:    cfg.Packages,
		limits:      cfg.Limits,
		network:     network,
		announce:    announce,
		peers:       newPeers(cfg.Device.ID, cfg.Device.Key.Public, cfg.Pairings, cfg.Limits),
		links:       newLinks(),
		markers:     newMarkers(cfg.Markers),
		log:         log.New(cfg.Log, "dsoftbusd: ", 0),
		keyLog:      keyLogger(cfg.KeyLog),
		ready:       make(chan struct{}),
		announceNow: make(chan struct{}, 1),
		handshakes:  make(chan struct{}, cfg.Limits.Handshakes),
		programs:    make(chan struct{}, cfg.Limits.Programs),
	}, nil
}

// awaitReady waits until this device is ready; it tells whether ctx is still going on. Nothing is heard and nobody is let in
// before, so that no marker comes in front of the one that says ready. Whoever is early waits in a socket.
func (d *daemon) awaitReady(ctx context.Context) bool {
	select {
	case <-d.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// dials says whether this device is the one that dials: of two, the one with the smaller id.
func (d *daemon) dials(peer string) bool { return d.id < peer }

// pause waits for a duration; it tells whether ctx is still going on.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
