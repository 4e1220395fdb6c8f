package dsoftbusd

import (
	"context"
	"io"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/protocol/pk"
)

// connect opens a bare connection to a daemon's listener.
func connect(t *testing.T, from, to *fakeHost) *fakeConn {
	t.Helper()
	c, err := from.dial(context.Background(), netip.AddrPortFrom(to.addr, to.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*fakeConn)
}

// ended waits for the end of a connection and gives when it was, and how many bytes came before.
func ended(c *fakeConn) (at time.Time, bytes int) {
	n, _ := io.Copy(io.Discard, c)
	return time.Now(), int(n)
}

func TestHandshakeDeadlineAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b, host := startOn(t, lan, 2, "node-b", "node-a")
		synctest.Wait()
		rogue := lan.host(66)
		begin := time.Now()
		var idle []*fakeConn
		for range DefaultLimits().Handshakes {
			idle = append(idle, connect(t, rogue, host))
		}
		synctest.Wait()
		if at, n := ended(connect(t, rogue, host)); at != begin || n != 0 {
			t.Errorf("one connection more: ended after %s and %d bytes", at.Sub(begin), n)
		}
		synctest.Wait() // it is closed first, and then reported
		if got := b.markers.count("dsoftbusd: session denied too many handshakes"); got != 1 {
			t.Errorf("printed %q", b.markers.texts())
		}
		for _, c := range idle {
			if at, n := ended(c); at.Sub(begin) != 5*time.Second || n != 0 {
				t.Errorf("an idle connection ended after %s and %d bytes", at.Sub(begin), n)
			}
		}
		if got := b.markers.count("dsoftbusd: session denied handshake timeout"); got != 1 {
			t.Errorf("printed %q", b.markers.texts())
		}
		// All places are free again.
		peer, err := dialAs(t, "node-a", lan.host(1), host)
		if err != nil {
			t.Fatal(err)
		}
		if got := peer.call(t, pk.AppendClose(nil, 1)); got != "PK\x01\x84\x06" {
			t.Errorf("answered %q", got)
		}
	})
}

// Unfinished handshakes cost those that are in a session nothing.
func TestSessionsLiveBesideUnfinishedHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, _ := startOn(t, lan, 1, "node-a", "node-b")
		b, host := startOn(t, lan, 2, "node-b", "node-a")
		a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b")
		rogue := lan.host(66)
		for range 200 {
			connect(t, rogue, host)
			time.Sleep(100 * time.Millisecond)
		}
		a.markers.never(t, "dsoftbusd: session lost")
		b.markers.never(t, "dsoftbusd: session lost")
		if got := b.markers.count("dsoftbusd: session denied too many handshakes"); got < 3 || got > 20 {
			t.Errorf("too many: reported %d times in 20 s", got)
		}
	})
}

func TestDeniedDiallers(t *testing.T) {
	tests := []struct {
		name   string
		dial   string // the dialler's id, and whose key it has
		as     string // the id it presents
		denial string
	}{
		{"unpaired", "node-x", "node-x", "not paired"},
		{"unpaired with a paired id", "node-x", "node-a", "wrong key"},
		{"paired key under an unpaired id", "node-a", "node-x", "not paired"},
		{"paired key under another paired id", "node-a", "node-0", "wrong key"},
		{"paired, but to be dialled", "node-c", "node-c", "not the dialler of the pair"},
		{"this device itself", "node-b", "node-b", "not paired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				b, host := startOn(t, lan, 2, "node-b", "node-a", "node-0", "node-c")
				synctest.Wait()
				peer, err := dialWith(t, deviceOf(t, tt.dial).Key, tt.as, lan.host(1), host)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := peer.collect(); len(got) != 0 || err != io.EOF {
					t.Errorf("received %+v, %v", got, err)
				}
				synctest.Wait()
				if got, want := b.markers.texts(), []string{"dsoftbusd: ready", "dsoftbusd: session denied " + tt.denial}; !reflect.DeepEqual(got, want) {
					t.Errorf("printed %q, want %q", got, want)
				}
			})
		})
	}
}

// Whatever comes instead of a handshake gets no answer at all.
func TestGarbageInsteadOfAHandshake(t *testing.T) {
	tests := []struct {
		name, bytes, denial string
		hangUp              bool
	}{
		{"PK frame", string(pk.AppendStat(nil, "pkg:/system/build.prop")), "handshake failed", false},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "handshake failed", false},
		{"zeros", string(make([]byte, 1000)), "handshake failed", false},
		{"forged message", "\x00\x30" + string(make([]byte, 48)), "handshake failed", false},
		{"nothing", "", "handshake cut short", true},
		{"half a message", "\x00\x30" + string(make([]byte, 20)), "handshake cut short", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				b, host := startOn(t, lan, 2, "node-b", "node-a")
				synctest.Wait()
				c := connect(t, lan.host(66), host)
				c.Write([]byte(tt.bytes))
				if tt.hangUp {
					c.out.change(func() { c.out.ended = io.EOF })
				}
				begin := time.Now()
				if at, n := ended(c); at != begin || n != 0 {
					t.Errorf("ended after %s and %d bytes", at.Sub(begin), n)
				}
				synctest.Wait()
				if b.markers.count("dsoftbusd: session denied "+tt.denial) != 1 {
					t.Errorf("printed %q", b.markers.texts())
				}
			})
		})
	}
}

// A device that is paired, but not for packagefs, has a session and no files.
func TestPairedForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		host := lan.host(2)
		pairings := pairedWith(t, "node-a")
		pairings[0].Services = []string{"other"}
		b := start(t, Config{Device: deviceOf(t, "node-b"), Pairings: pairings, Limits: DefaultLimits()}, host.network(),
			newStore(map[string][]byte{"system/x": nil}))
		synctest.Wait()
		peer, err := dialAs(t, "node-a", lan.host(1), host)
		if err != nil {
			t.Fatal(err)
		}
		for _, frame := range [][]byte{pk.AppendStat(nil, "pkg:/system/x"), pk.AppendOpen(nil, "pkg:/../x"), {1}, pk.AppendClose(nil, 1)} {
			if got := peer.call(t, frame); got != string(pk.AppendReject(nil, frame, pk.Unauthenticated)) {
				t.Errorf("%q is answered %q", frame, got)
			}
		}
		if b.store.resolves != 0 {
			t.Errorf("the package service was asked %d times", b.store.resolves)
		}
		b.markers.never(t, "dsoftbusd: remote packagefs served")
	})
}
