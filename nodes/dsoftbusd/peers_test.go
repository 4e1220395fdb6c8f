package dsoftbusd

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"dsoftbus-rig/protocol/nxsb"
)

func newTestPeers(t *testing.T) *peers {
	self := deviceOf(t, "node-a")
	return newPeers(self.ID, self.Key.Public, pairedWith(t, "node-b"), DefaultLimits())
}

func heardFrom(t *testing.T, p *peers, id, from string, port uint16, now time.Time) (verdict, bool) {
	a, err := nxsb.Parse(announceOf(t, id, port))
	if err != nil {
		t.Fatal(err)
	}
	v, _, answer := p.hear(a, netip.MustParseAddr(from), now)
	return v, answer
}

func endpointsOf(p *peers, now time.Time) []string {
	var list []string
	for _, e := range p.endpoints(p.paired["node-b"], now) {
		list = append(list, e.endpoint.String())
	}
	return list
}

// The endpoints that were heard most often are dialled: the device repeats its announce from where it is.
func TestEndpointsAreThoseHeardMostOften(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	hear := func(addresses ...string) {
		for _, from := range addresses {
			heardFrom(t, p, "node-b", from, 7, now)
		}
	}
	check := func(what string, want ...string) {
		t.Helper()
		for i := range want {
			want[i] = "10.0.0." + want[i] + ":7"
		}
		if got := endpointsOf(p, now); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	hear("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")
	check("heard once, all but one place are theirs", "3", "2", "1")
	hear("10.0.0.5", "10.0.0.5")
	check("at the same moment, which counts once", "3", "2", "1")
	now = now.Add(apart)
	hear("10.0.0.5")
	check("heard twice", "5", "3", "2", "1")
	hear("10.0.0.4")
	check("instead of the one not heard for longest", "4", "5", "3", "2")
	p.dial(p.paired["node-b"], netip.MustParseAddrPort("10.0.0.2:7"), true, false)
	p.prove(p.paired["node-b"], netip.MustParseAddrPort("10.0.0.3:7"))
	now = now.Add(apart)
	hear("10.0.0.4", "10.0.0.5")
	for i := 6; i < 200; i++ { // all heard twice
		now = now.Add(time.Millisecond)
		hear(fmt.Sprintf("10.0.0.%d", i))
		if i > 60 {
			hear(fmt.Sprintf("10.0.0.%d", i-55))
		}
	}
	check("the one being dialled and the proven one stay, and those heard three times", "3", "5", "4", "2")
	p.dial(p.paired["node-b"], netip.MustParseAddrPort("10.0.0.2:7"), false, true)
	hear("10.0.0.210")
	now = now.Add(apart)
	hear("10.0.0.210")
	check("the attempt has ended", "3", "210", "5", "4")
	hear("10.0.0.211")
	now = now.Add(apart)
	hear("10.0.0.211")
	check("as often as the one that was not dialled yet", "3", "210", "5", "4")
	p.dial(p.paired["node-b"], netip.MustParseAddrPort("10.0.0.210:7"), false, true)
	hear("10.0.0.211")
	check("that one was dialled in vain", "3", "211", "5", "4")
	now = now.Add(DefaultLimits().PeerExpiry)
	hear("10.0.0.7")
	now = now.Add(1)
	hear("10.0.0.7")
	check("silent ones go, but for the proven one", "3", "7")
}

// With one place, an address heard again has it all the same: a proven one may be old.
func TestOneEndpoint(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	p.limits.Endpoints = 1
	heardFrom(t, p, "node-b", "10.0.0.3", 7, now)
	p.prove(p.paired["node-b"], netip.MustParseAddrPort("10.0.0.3:7"))
	heardFrom(t, p, "node-b", "10.0.0.9", 7, now)
	if got, want := endpointsOf(p, now), []string{"10.0.0.9:7"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What is remembered of a flood is bounded.
func TestMemoryOfEndpoints(t *testing.T) {
	now := time.Now()
	var e endpoints
	for i := range 5 * memoryMost {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		e.hear(netip.AddrPortFrom(address, 7), now.Add(time.Duration(i)*time.Microsecond), netip.AddrPort{}, 4, time.Minute)
	}
	if got := len(e.fresh) + len(e.older); got > 2*memoryMost || got < memoryMost {
		t.Errorf("%d endpoints are remembered, want %d to %d", got, memoryMost, 2*memoryMost)
	}
}

func TestAddressesThatCannotBeDialled(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	for _, from := range []string{"0.0.0.0", "239.42.0.1", "::"} {
		if v, _ := heardFrom(t, p, "node-b", from, 7, now); v == mismatched || v == own || v == stranger {
			t.Errorf("heard from %s: %d", from, v)
		}
	}
	heardFrom(t, p, "node-b", "10.0.0.1", 0, now)
	if got := endpointsOf(p, now); got != nil {
		t.Errorf("to be dialled: %v", got)
	}
}

func TestPairedPeerExpires(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	steps := []struct {
		after  time.Duration
		want   verdict
		answer bool
	}{
		{0, learned, true},
		{5 * time.Second, known, false},
		{5*time.Second + 1, learned, true},
		{0, known, false},
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if v, answer := heardFrom(t, p, "node-b", fmt.Sprintf("10.0.0.%d", i+1), 7, now); v != s.want || answer != s.answer {
			t.Errorf("step %d: %d, %t", i, v, answer)
		}
	}
	// What was heard before it expired is forgotten.
	if got, want := endpointsOf(p, now), []string{"10.0.0.4:7", "10.0.0.3:7"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := endpointsOf(p, now.Add(5*time.Second+1)); got != nil {
		t.Errorf("expired, and still %v", got)
	}
	p.lost(p.paired["node-b"])
	if v, answer := heardFrom(t, p, "node-b", "10.0.0.4", 7, now); v != known || !answer {
		t.Errorf("after its session was lost: %d, %t", v, answer)
	}
	if v, answer := heardFrom(t, p, "node-b", "10.0.0.4", 7, now); v != known || answer {
		t.Errorf("and once more: %d, %t", v, answer)
	}
}

func TestStrangersAreTheLastSixteenHeard(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	heardFrom(t, p, "node-b", "10.0.0.2", 7, now)
	for i := range 16 {
		heardFrom(t, p, fmt.Sprintf("x%02d", i), "10.0.0.9", 7, now)
	}
	heardFrom(t, p, "x00", "10.0.0.9", 7, now) // heard again, so not the one to go
	heardFrom(t, p, "new", "10.0.0.9", 7, now)
	list := p.list(now, func(string) bool { return false })
	var ids []string
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	want := []string{"node-b", "new", "x00", "x02", "x03", "x04", "x05", "x06", "x07", "x08", "x09", "x10", "x11", "x12", "x13", "x14", "x15"}
	if !reflect.DeepEqual(ids, want) {
		t.Errorf("remembered %v, want %v", ids, want)
	}
	if peer, heard := p.status("x01", now); peer != nil || heard {
		t.Error("the evicted one has a status")
	}
	if peer, heard := p.status("x02", now); peer != nil || !heard {
		t.Error("a stranger has none")
	}
	later := now.Add(5*time.Second + 1)
	if list := p.list(later, func(string) bool { return true }); len(list) != 1 || list[0].AgeMS != -1 || len(list[0].Addresses) != 0 || !list[0].Session {
		t.Errorf("when all is expired: %+v", list)
	}
	if _, heard := p.status("x02", later); heard {
		t.Error("an expired stranger is heard of")
	}
}

// Somebody else's announce under this device's id is not another device.
func TestOwnAnnounces(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	key := deviceOf(t, "node-x").Key.Public
	for _, a := range []nxsb.Announce{{DeviceID: "node-a", Port: 7, Key: p.key}, {DeviceID: "node-a", Port: 7, Key: key}, {DeviceID: "x", Port: 7, Key: p.key}} {
		if v, _, _ := p.hear(a, netip.MustParseAddr("10.0.0.9"), now); v != own {
			t.Errorf("%+v: %d", a, v)
		}
	}
}

func TestListingOfAddresses(t *testing.T) {
	p, now := newTestPeers(t), time.Now()
	heardFrom(t, p, "node-b", "10.0.0.1", 7, now)
	heardFrom(t, p, "node-b", "10.0.0.2", 7, now)
	heardFrom(t, p, "node-b", "10.0.0.1", 8, now.Add(time.Second))
	e := p.list(now.Add(3*time.Second), func(string) bool { return false })[0]
	if !reflect.DeepEqual(e.Addresses, []string{"10.0.0.1", "10.0.0.2"}) || e.Port != 8 || e.AgeMS != 2000 || !reflect.DeepEqual(e.Services, []string{"packagefs"}) {
		t.Errorf("%+v", e)
	}
}
