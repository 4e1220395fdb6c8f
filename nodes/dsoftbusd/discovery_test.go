package dsoftbusd

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/nxsb"
)

// startOn starts a daemon of the fake LAN at 10.0.0.n.
func startOn(t *testing.T, lan *fakeLAN, n byte, id string, paired ...string) (*node, *fakeHost) {
	t.Helper()
	host := lan.host(n)
	cfg := Config{Device: deviceOf(t, id), Pairings: pairedWith(t, paired...), Limits: DefaultLimits()}
	return start(t, cfg, host.network(), newStore(map[string][]byte{"system/build.prop": []byte("ro.nexus.build=dev\n")})), host
}

// announceOf makes the announce of a device, changed as the test wants.
func announceOf(t testing.TB, id string, port uint16, change ...func(*nxsb.Announce)) []byte {
	t.Helper()
	a := nxsb.Announce{DeviceID: id, Port: port, Key: deviceOf(t, id).Key.Public, Services: []string{device.ServicePackageFS}}
	for _, c := range change {
		c(&a)
	}
	b, err := nxsb.Append(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// since gives the times of events after a start, in milliseconds.
func since(start time.Time, events []time.Time) []int64 {
	var ms []int64
	for _, e := range events {
		ms = append(ms, e.Sub(start).Milliseconds())
	}
	return ms
}

func TestAnnounceSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, host := startOn(t, newFakeLAN(), 1, "node-a")
		time.Sleep(3900 * time.Millisecond)
		want := []int64{0, 100, 200, 400, 800, 1800, 2800, 3800}
		if got := since(begin, host.announcedAt()); !reflect.DeepEqual(got, want) {
			t.Errorf("announced at %d ms, want %d", got, want)
		}
	})
}

func TestAnnounceBeginsWhenTheInterfaceIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		host := lan.host(1)
		host.down = true
		n := start(t, Config{Device: deviceOf(t, "node-a"), Limits: DefaultLimits()}, host.network(), newStore(nil))
		time.Sleep(10 * time.Second)
		if got := n.markers.texts(); len(got) != 0 {
			t.Errorf("while nothing can be sent: %q", got)
		}
		if got := n.log.texts(); len(got) != 2 { // the start, and one complaint
			t.Errorf("logged %q", got)
		}
		host.set(func() { host.down = false })
		up := n.markers.want(t.Context(), t, "dsoftbusd: ready")
		time.Sleep(time.Second)
		if got, want := since(up, host.announcedAt()), []int64{0, 100, 200, 400, 800}; !reflect.DeepEqual(got, want) {
			t.Errorf("announced at %d ms, want %d", got, want)
		}
		host.set(func() { host.down = true })
		time.Sleep(3 * time.Second)
		host.set(func() { host.down = false })
		time.Sleep(1001 * time.Millisecond)
		times := host.announcedAt()
		if got, want := since(times[0], times), []int64{0, 100, 200, 400, 800}; !reflect.DeepEqual(got, want) {
			t.Errorf("after the interface was down: at %d ms, want %d", got, want)
		}
		if got := n.markers.count("dsoftbusd: ready"); got != 1 {
			t.Errorf("ready %d times", got)
		}
	})
}

// A pair has its session at once, whoever comes first: nobody waits for a timer.
func TestFreshPairWaitsForNoTimer(t *testing.T) {
	for _, order := range [][2]string{{"node-a", "node-b"}, {"node-b", "node-a"}} {
		for _, gap := range []time.Duration{0, 30 * time.Millisecond, 950 * time.Millisecond, 7 * time.Second} {
			t.Run(fmt.Sprintf("%s first by %s", order[0], gap), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					first, _ := startOn(t, lan, 1, order[0], order[1])
					time.Sleep(gap)
					synctest.Wait()
					begin := time.Now()
					second, _ := startOn(t, lan, 2, order[1], order[0])
					for _, n := range []*node{first, second} {
						other := order[0]
						if n == first {
							other = order[1]
						}
						if at := n.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok "+other); at != begin {
							t.Errorf("%s has its session after %s", n.id, at.Sub(begin))
						}
					}
				})
			})
		}
	}
}

func TestMarkersOfAPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, _ := startOn(t, lan, 1, "node-a", "node-b")
		synctest.Wait()
		b, _ := startOn(t, lan, 2, "node-b", "node-a")
		time.Sleep(20*time.Second + 500*time.Millisecond) // between two pings
		want := []string{
			"dsoftbusd: ready",
			"dsoftbusd: discovery cross-vm up",
			"dsoftbusd: discovery peer learned node-b",
			"dsoftbusd: cross-vm session ok node-b",
		}
		if got := a.markers.texts(); !reflect.DeepEqual(got, want) {
			t.Errorf("node-a printed %q", got)
		}
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "node-b", "node-a")
		}
		if got := b.markers.texts(); !reflect.DeepEqual(got, want) {
			t.Errorf("node-b printed %q", got)
		}
		b.halt(t)
		synctest.Wait()
		if got := a.markers.texts()[4:]; !reflect.DeepEqual(got, []string{"dsoftbusd: session lost node-b"}) {
			t.Errorf("when node-b stops, node-a prints %q", got)
		}
		if got := a.log.texts(); got[len(got)-1] != `dsoftbusd: session with node-b ended: closed by the peer: "shutting down"` {
			t.Errorf("node-a logged %q", got)
		}
	})
}

// Announces of one node alone tell nobody of itself.
func TestAloneNobodyIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		n, host := startOn(t, lan, 1, "node-a", "node-b")
		host.deliver(host.addr, announceOf(t, "node-a", 1)) // its own, as a bridge may give it back
		host.deliver(host.addr, announceOf(t, "node-b", 1, func(a *nxsb.Announce) { a.Key = deviceOf(t, "node-a").Key.Public }))
		time.Sleep(time.Second)
		if got := n.markers.texts(); len(got) != 1 {
			t.Errorf("printed %q", got)
		}
	})
}

func TestBadAnnouncesAreReportedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		n, host := startOn(t, lan, 1, "node-a", "node-b", "node-c")
		wrong := func(a *nxsb.Announce) { a.Key[0]++ }
		rogue := netip.MustParseAddr("10.0.0.66")
		for range 30 {
			for range 10 {
				host.deliver(rogue, []byte("NXSB\x01\x00"))
				host.deliver(rogue, announceOf(t, "node-b", 1, wrong))
				host.deliver(rogue, announceOf(t, "node-c", 1, wrong))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got := n.markers.count("dsoftbusd: announce ignored (malformed)"); got != 3 {
			t.Errorf("malformed: %d times in 3 s", got)
		}
		if got := n.markers.count("dsoftbusd: identity mismatch peer=node-b"); got != 3 {
			t.Errorf("mismatch: %d times in 3 s", got)
		}
		n.markers.never(t, "dsoftbusd: discovery")
		if len(lan.attempts()) != 0 {
			t.Errorf("dialled %v", lan.attempts())
		}
	})
}

// Strangers are remembered but never dialled, and their number costs nothing but their table's places.
func TestFloodOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		n, host := startOn(t, lan, 1, "node-a", "node-b")
		b, _ := startOn(t, lan, 2, "node-b", "node-a")
		n.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b")
		dials := len(lan.attempts())
		for i := range 2000 {
			host.deliver(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), announceOf(t, fmt.Sprintf("stranger-%d", i), 1))
			if i%200 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(100 * time.Millisecond)
		list := listPeers(t, n, host)
		if len(list) != 17 || list[0].ID != "node-b" || !list[0].Paired || !list[0].Session || list[1].Paired {
			t.Errorf("%d peers: %+v", len(list), list)
		}
		if len(lan.attempts()) != dials {
			t.Errorf("strangers were dialled: %v", lan.attempts())
		}
		for _, m := range []*lines{n.markers, b.markers} {
			m.never(t, "dsoftbusd: session lost")
		}
	})
}

// Half-dead pairs: what a restart looks like to the other side, and how long it takes to be a pair again.
func TestRestarts(t *testing.T) {
	for _, who := range []string{"node-a", "node-b"} { // the dialler, the listener
		for _, silent := range []bool{false, true} { // with the end of its connections, or without a word
			for _, away := range []time.Duration{0, 700 * time.Millisecond, 10 * time.Second} {
				t.Run(fmt.Sprintf("%s silent %t away %s", who, silent, away), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						restart(t, who, silent, away)
					})
				})
			}
		}
	}
}

func restart(t *testing.T, who string, silent bool, away time.Duration) {
	other := map[string]string{"node-a": "node-b", "node-b": "node-a"}[who]
	lan := newFakeLAN()
	stays, _ := startOn(t, lan, 1, other, who)
	goes, host := startOn(t, lan, 2, who, other)
	goes.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok "+other)
	stays.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok "+who)
	time.Sleep(1300 * time.Millisecond)
	if silent {
		host.freeze()
	}
	goes.halt(t)
	time.Sleep(away)
	synctest.Wait()
	begin := time.Now()
	again, _ := startOn(t, lan, 2, who, other)
	stays.markers.want(t.Context(), t, "dsoftbusd: session lost "+who)
	took := again.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok "+other).Sub(begin)
	stays.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok "+who)
	// What must be waited for: the shortest wait before dialling again, if that has not passed; the next announce, for a
	// dialler whose partner has not noticed; the death of the old session, for a listener whose dialler has not.
	longest := dialWaits[0]
	switch {
	case silent && away < DefaultLimits().DeadAfter && who == "node-a":
		longest = announceInterval
	case silent && away < DefaultLimits().DeadAfter:
		longest = DefaultLimits().DeadAfter + dialWaits[0]
	}
	if took > longest {
		t.Errorf("a pair again after %s, want at most %s", took, longest)
	}
	t.Logf("a pair again after %s", took)
	time.Sleep(10 * time.Second)
	again.markers.never(t, "dsoftbusd: session lost")
}
