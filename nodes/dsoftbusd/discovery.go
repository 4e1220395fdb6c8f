package dsoftbusd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"dsoftbus-rig/protocol/nxsb"
)

// announceBurst are the waits after the first announces: at once, at 100, 200, 400 and 800 ms, then every second.
var announceBurst = []time.Duration{
	100 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond,
}

const (
	announceInterval = time.Second
	// announceRetry is the wait while nothing can be sent: short, since the first announce is due at once when the
	// interface is up.
	announceRetry = 200 * time.Millisecond
	// receiveRetry keeps a broken socket from spinning.
	receiveRetry = 100 * time.Millisecond
)

// announceLoop announces this device until ctx ends. It also answers announces of peers that may not know this device.
func (d *daemon) announceLoop(ctx context.Context) {
	sent := 0 // since the interface is up
	failing, ready := false, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.announceNow:
			// Beside the schedule. Should it fail, the schedule finds out.
			d.network.Announces.Announce(d.announce)
			continue
		case <-timer.C:
		}
		if err := d.network.Announces.Announce(d.announce); err != nil {
			if !failing {
				d.log.Printf("%v; trying until it works", err)
			}
			sent, failing = 0, true
			timer.Reset(announceRetry)
			continue
		}
		failing = false
		if !ready {
			ready = true
			d.markers.print("dsoftbusd: ready")
			close(d.ready)
		}
		if sent < len(announceBurst) {
			timer.Reset(announceBurst[sent])
			sent++
		} else {
			timer.Reset(announceInterval)
		}
	}
}

// hearLoop takes in announces until ctx ends.
func (d *daemon) hearLoop(ctx context.Context) {
	if !d.awaitReady(ctx) {
		return
	}
	// More than the largest announce: what follows it is ignored, not an error.
	buf := make([]byte, 2048)
	for {
		n, from, err := d.network.Announces.Receive(buf)
		if err == nil {
			d.hear(buf[:n], from)
			continue
		}
		if errors.Is(err, net.ErrClosed) || !pause(ctx, receiveRetry) {
			return
		}
	}
}

func (d *daemon) hear(datagram []byte, from netip.Addr) {
	a, err := nxsb.Parse(datagram)
	if err != nil {
		if d.markers.printLimited("malformed", "dsoftbusd: announce ignored (malformed)") {
			d.log.Printf("announce from %s: %v", from, err)
		}
		return
	}
	v, peer, answer := d.peers.hear(a, from, time.Now())
	if v == own {
		return
	}
	if v == mismatched {
		// The id is one of the pairing list, so it is safe to print.
		d.markers.printLimited("mismatch", "dsoftbusd: identity mismatch peer="+a.DeviceID)
		return
	}
	d.markers.printOnce("dsoftbusd: discovery cross-vm up")
	if v == learned {
		d.markers.print("dsoftbusd: discovery peer learned %s", a.DeviceID)
	}
	if peer != nil {
		// Whoever announces is there: a dialler that waits before its next attempt need not wait longer.
		peer.poke()
	}
	if answer {
		select {
		case d.announceNow <- struct{}{}:
		default:
		}
	}
}
