package dsoftbusd

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
	want := "path=192 read=32768 handles=8 read-ahead=32 resolve-timeout=2s strangers=16 endpoints=4 peer-expiry=5s handshakes=16 " +
		"handshake-timeout=5s ping-after=1s dead-after=3s programs=32"
	if got := DefaultLimits().String(); got != want {
		t.Errorf("prints as %q", got)
	}
	for name, change := range map[string]func(*Limits){
		"pk":                func(l *Limits) { l.PK.MaxHandles = 0 },
		"strangers":         func(l *Limits) { l.Strangers = -1 },
		"endpoints":         func(l *Limits) { l.Endpoints = 0 },
		"expiry":            func(l *Limits) { l.PeerExpiry = 0 },
		"handshakes":        func(l *Limits) { l.Handshakes = 0 },
		"handshake timeout": func(l *Limits) { l.HandshakeTimeout = -1 },
		"ping":              func(l *Limits) { l.PingAfter = 0 },
		"dead before ping":  func(l *Limits) { l.DeadAfter = l.PingAfter },
		"read ahead":        func(l *Limits) { l.ReadAhead = 0 },
		"resolve":           func(l *Limits) { l.ResolveTimeout = 0 },
		"programs":          func(l *Limits) { l.Programs = 0 },
	} {
		l := DefaultLimits()
		change(&l)
		if l.Validate() == nil {
			t.Errorf("%s: %s is taken as valid", name, l)
		}
	}
}

func TestRunRefusesWhatItCannotWorkWith(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"limits": func(c *Config) { c.Limits.ReadAhead = 0 },
		"id":     func(c *Config) { c.Device.ID = strings.Repeat("x", 65) },
	} {
		host := newFakeLAN().host(1)
		cfg := Config{Device: deviceOf(t, "node-a"), Limits: DefaultLimits(), Markers: io.Discard, Log: io.Discard}
		change(&cfg)
		if err := Run(t.Context(), cfg, host.network()); err == nil {
			t.Errorf("%s: no error", name)
		}
		select {
		case <-host.closed:
		default:
			t.Errorf("%s: the network was left open", name)
		}
	}
}

func TestStrangersMayBeForgotten(t *testing.T) {
	p := newTestPeers(t)
	p.limits.Strangers = 0
	if v, _ := heardFrom(t, p, "x", "10.0.0.9", 7, time.Now()); v != stranger {
		t.Errorf("heard: %d", v)
	}
	if list := p.list(time.Now(), func(string) bool { return false }); len(list) != 1 {
		t.Errorf("listed %+v", list)
	}
}
