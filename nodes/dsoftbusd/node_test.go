package dsoftbusd

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/session"
)

// deviceOf makes the device of an id: everyone can know everyone's key.
func deviceOf(tb testing.TB, id string) device.Device {
	tb.Helper()
	key, err := session.NewKeyPair(sha256.Sum256([]byte(id)))
	if err != nil {
		tb.Fatal(err)
	}
	return device.Device{ID: id, Key: key}
}

// pairedWith makes the pairing list of devices that may use packagefs.
func pairedWith(tb testing.TB, ids ...string) []device.Pairing {
	tb.Helper()
	var list []device.Pairing
	for _, id := range ids {
		list = append(list, device.Pairing{ID: id, Key: deviceOf(tb, id).Key.Public, Services: []string{device.ServicePackageFS}})
	}
	return list
}

// node is a daemon under test.
type node struct {
	id      string
	store   *memStore
	markers *lines
	log     *lines
	network Network
	stop    context.CancelFunc
	done    chan error // gets what Run returned
}

// start runs a daemon until the test ends or stop is called.
func start(tb testing.TB, cfg Config, network Network, store *memStore) *node {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{id: cfg.Device.ID, store: store, markers: newLines(), log: newLines(), network: network, stop: cancel, done: make(chan error, 1)}
	cfg.Packages, cfg.Markers, cfg.Log = store, n.markers, n.log
	go func() { n.done <- Run(ctx, cfg, network); close(n.done) }()
	tb.Cleanup(func() { n.halt(tb) })
	return n
}

// halt stops the daemon and waits for its end.
func (n *node) halt(tb testing.TB) {
	tb.Helper()
	n.stop()
	if err := <-n.done; err != nil {
		tb.Errorf("%s ended with: %v", n.id, err)
	}
	for _, text := range append(n.markers.texts(), n.log.texts()...) {
		if strings.ContainsRune(text, '\n') {
			tb.Errorf("%s wrote %q, which is not one line", n.id, text)
		}
	}
}
