package dsoftbusd

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/protocol/nxsb"
)

// dialTimes gives when each attempt was made, in milliseconds after begin.
func dialTimes(lan *fakeLAN, begin time.Time) []int64 {
	var times []time.Time
	for _, d := range lan.attempts() {
		times = append(times, d.at)
	}
	return since(begin, times)
}

// A peer that was heard once and refuses is dialled on the schedule until its entry expires.
func TestDialSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, host := startOn(t, lan, 1, "node-a", "node-b")
		peer := lan.host(2)
		peer.refuses = true
		time.Sleep(time.Second)
		begin := time.Now()
		host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
		time.Sleep(time.Minute)
		// The announce came before the first attempt, so it shortens the first wait to what it is anyway.
		want := []int64{0, 50, 150, 350, 750, 1550, 2550, 3550, 4550}
		if got := dialTimes(lan, begin); !reflect.DeepEqual(got, want) {
			t.Errorf("dialled at %d ms, want %d", got, want)
		}
		host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
		time.Sleep(60 * time.Millisecond)
		want = append(want, 60000, 60050)
		if got := dialTimes(lan, begin); !reflect.DeepEqual(got, want) {
			t.Errorf("heard again: dialled at %d ms, want %d", got, want)
		}
	})
}

// A listener that does not let this device in is not dialled more often than one that refuses.
func TestDialScheduleWhenNotLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, host := startOn(t, lan, 1, "node-a", "node-b")
		peer := lan.host(2)
		b := start(t, config(t, "node-b", "node-c"), peer.network(), newStore(nil)) // node-a is missing
		b.markers.want(t.Context(), t, "dsoftbusd: ready")
		b.network.Announces.(*fakeHost).set(func() { peer.down = true }) // no announce beside the test's
		synctest.Wait()
		time.Sleep(10 * time.Second)
		before := len(lan.attempts())
		begin := time.Now()
		host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
		time.Sleep(3 * time.Second)
		if got, want := dialTimes(lan, begin)[before:], []int64{0, 50, 150, 350, 750, 1550, 2550}; !reflect.DeepEqual(got, want) {
			t.Errorf("dialled at %d ms, want %d", got, want)
		}
	})
}

// Endpoints are tried in turn, each alone for a while; one that is known no more is given up.
func TestEndpointsAreTriedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, host := startOn(t, lan, 1, "node-a", "node-b")
		synctest.Wait()
		begin := time.Now()
		liars := []*fakeHost{lan.host(66), lan.host(67), lan.host(68), lan.host(69)}
		for _, liar := range liars {
			liar.swallows = true
		}
		for range 2 { // the fourth has a place when it was heard twice
			for _, liar := range liars {
				host.deliver(liar.addr, announceOf(t, "node-b", liar.port))
			}
			time.Sleep(apart)
		}
		time.Sleep(time.Second)
		if got, want := dialTimes(lan, begin), []int64{0, 300, 600, 900}; !reflect.DeepEqual(got, want) {
			t.Errorf("dialled at %d ms, want %d", got, want)
		}
		for i := range 100 {
			liar := lan.host(byte(100 + i))
			liar.swallows = true
			host.deliver(liar.addr, announceOf(t, "node-b", liar.port))
			time.Sleep(10 * time.Millisecond)
		}
		if got := lan.mostWaiting(); got > DefaultLimits().Endpoints+1 { // one may be on its way out
			t.Errorf("%d attempts were going on at once", got)
		}
	})
}

// A flood of new endpoints does not make a flood of attempts, and an attempt that is going on is not given up for it.
func TestFloodOfEndpoints(t *testing.T) {
	for _, swallows := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lan := newFakeLAN()
			_, host := startOn(t, lan, 1, "node-a", "node-b")
			synctest.Wait()
			begin := time.Now()
			for i := range 1000 {
				liar := lan.hostAt(netip.AddrFrom4([4]byte{10, 0, 1 + byte(i>>8), byte(i)}))
				liar.refuses, liar.swallows = !swallows, swallows
				host.deliver(liar.addr, announceOf(t, "node-b", liar.port))
				time.Sleep(time.Millisecond)
			}
			if got := len(lan.attempts()); !swallows && (got < dialMost || got > dialMost+1) {
				t.Errorf("%d attempts in a second, want %d", got, dialMost)
			}
			if got, want := dialTimes(lan, begin), []int64{0, 300, 600}; swallows && !reflect.DeepEqual(got, want) {
				t.Errorf("dialled at %d ms, want %d", got, want)
			}
		})
	}
}

// True announces of a device from ever new addresses, one a millisecond, do not keep its session away.
func TestTrueAnnouncesFromEverywhere(t *testing.T) {
	for name, lie := range map[string]func(*fakeHost){
		"refused":   func(h *fakeHost) { h.refuses = true },
		"swallowed": func(h *fakeHost) { h.swallows = true },
	} {
		for _, late := range []time.Duration{0, 3 * time.Second} {
			t.Run(fmt.Sprintf("%s, the device comes after %s", name, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					a, host := startOn(t, lan, 1, "node-a", "node-b")
					synctest.Wait()
					announce := announceOf(t, "node-b", 34567)
					ctx, stop := context.WithCancel(t.Context())
					flooded := make(chan struct{})
					go func() {
						defer close(flooded)
						for i := 0; i < 6000 && ctx.Err() == nil; i++ {
							liar := lan.hostAt(netip.AddrFrom4([4]byte{10, 1 + byte(i>>16), byte(i >> 8), byte(i)}))
							lie(liar)
							host.deliver(liar.addr, announce)
							time.Sleep(time.Millisecond)
						}
					}()
					time.Sleep(late)
					begin := time.Now()
					startOn(t, lan, 2, "node-b", "node-a")
					took := a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b").Sub(begin)
					if took > 2*time.Second {
						t.Errorf("the session took %s, want at most 2s", took)
					}
					stop()
					<-flooded
					t.Log(took)
				})
			})
		}
	}
}

// An announce says that the peer is there: the wait ends, though never below the shortest.
func TestAnnounceEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, host := startOn(t, lan, 1, "node-a", "node-b")
		peer := lan.host(2)
		peer.refuses = true
		begin := time.Now()
		host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
		time.Sleep(800 * time.Millisecond) // within the wait from 750 to 1550
		host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
		time.Sleep(time.Millisecond)
		if got, want := dialTimes(lan, begin), []int64{0, 50, 150, 350, 750, 800}; !reflect.DeepEqual(got, want) {
			t.Errorf("dialled at %d ms, want %d", got, want)
		}
		for range 1000 {
			host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
			time.Sleep(time.Millisecond)
		}
		if got, want := dialTimes(lan, begin), []int64{0, 50, 150, 350, 750, 800, 1800}; !reflect.DeepEqual(got, want) {
			t.Errorf("with a flood of announces dialled at %d ms, want %d", got, want)
		}
	})
}

func TestOnlyTheSmallerIDDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, host := startOn(t, lan, 2, "node-b", "node-a")
		peer := lan.host(1)
		host.deliver(peer.addr, announceOf(t, "node-a", peer.port))
		time.Sleep(10 * time.Second)
		if got := lan.attempts(); len(got) != 0 {
			t.Errorf("dialled %v", got)
		}
	})
}

func TestPortZeroIsNeverDialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		n, host := startOn(t, lan, 1, "node-a", "node-b")
		host.deliver(lan.host(2).addr, announceOf(t, "node-b", 0))
		time.Sleep(time.Second)
		if got := lan.attempts(); len(got) != 0 {
			t.Errorf("dialled %v", got)
		}
		n.markers.want(t.Context(), t, "dsoftbusd: discovery peer learned node-b")
	})
}

// Anyone can send a paired device's public key from a wrong address. That must not keep the true one from being dialled.
func TestLiesDoNotDelayThePeer(t *testing.T) {
	lies := map[string]func(h *fakeHost){
		"refuses":  func(h *fakeHost) { h.refuses = true },
		"swallows": func(h *fakeHost) { h.swallows = true },
		"is silent": func(h *fakeHost) {
			go func() {
				for {
					if _, err := h.Accept(); err != nil {
						return
					}
				}
			}()
		},
	}
	for name, lie := range lies {
		for truth := range 4 {
			t.Run(fmt.Sprintf("%s truth comes as %d", name, truth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					a, host := startOn(t, lan, 1, "node-a", "node-b")
					synctest.Wait()
					for i := range 3 {
						liar := lan.host(byte(66 + i))
						t.Cleanup(func() { liar.Close() })
						lie(liar)
						host.deliver(liar.addr, announceOf(t, "node-b", liar.port))
					}
					begin := time.Now()
					time.Sleep(time.Duration(truth) * 50 * time.Millisecond)
					startOn(t, lan, 2, "node-b", "node-a")
					took := a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b").Sub(begin)
					// In turn, with a head start for each of three lies.
					if took > 3*headStart+150*time.Millisecond {
						t.Errorf("the session took %s", took)
					}
					t.Log(took)
				})
			})
		}
	}
}

// Once proved, an address is kept and dialled first, however many lies are heard since.
func TestProvenAddressOutlivesLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, host := startOn(t, lan, 1, "node-a", "node-b")
		b, _ := startOn(t, lan, 2, "node-b", "node-a")
		a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b")
		for range 2 {
			for i := range 100 {
				host.deliver(netip.AddrFrom4([4]byte{10, 0, 9, byte(i)}), announceOf(t, "node-b", 34567))
			}
			time.Sleep(apart)
		}
		synctest.Wait()
		b.halt(t)
		a.markers.want(t.Context(), t, "dsoftbusd: session lost node-b")
		before := len(lan.attempts())
		time.Sleep(5 * dialWaits[0])
		synctest.Wait()
		got := lan.attempts()[before:]
		tried := make(map[netip.AddrPort]bool)
		for _, attempt := range got {
			tried[attempt.to] = true
		}
		if len(got) == 0 || got[0].to.String() != "10.0.0.2:34567" || len(tried) != DefaultLimits().Endpoints {
			t.Errorf("dialled %v", tried)
		}
	})
}

// Whoever answers with another key is not the peer, whatever its announce says.
func TestWrongKeyOfTheListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, host := startOn(t, lan, 1, "node-a", "node-b")
		c, liar := startOn(t, lan, 3, "node-c", "node-a")
		host.deliver(liar.addr, announceOf(t, "node-b", liar.port))
		time.Sleep(10 * time.Second)
		a.markers.never(t, "dsoftbusd: cross-vm session ok")
		if c.markers.count("dsoftbusd: session denied handshake failed") == 0 {
			t.Errorf("node-c printed %q", c.markers.texts())
		}
	})
}

func TestAnnounceOfAnotherPortIsAnotherEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, host := startOn(t, lan, 1, "node-a", "node-b")
		b, peer := startOn(t, lan, 2, "node-b", "node-a")
		a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b")
		b.halt(t)
		host.deliver(peer.addr, announceOf(t, "node-b", 9, func(a *nxsb.Announce) {}))
		begin := time.Now()
		startOn(t, lan, 2, "node-b", "node-a")
		if took := a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b").Sub(begin); took > dialWaits[0] {
			t.Errorf("a forged port cost %s", took)
		}
	})
}
