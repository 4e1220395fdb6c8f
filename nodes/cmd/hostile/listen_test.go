package hostile

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/protocol/nxsb"
)

// The median decides: announces that a busy machine sends late, or between two of the schedule, are no fault.
func TestSteady(t *testing.T) {
	ms := func(all ...int) (gaps []time.Duration) {
		for _, n := range all {
			gaps = append(gaps, time.Duration(n)*time.Millisecond)
		}
		return gaps
	}
	for _, c := range []struct {
		gaps []time.Duration
		ok   bool
	}{
		{ms(1000, 1001, 999), true},
		{ms(100, 100, 200, 400, 1000, 1002, 1001, 1000, 1003), true},
		{ms(2400, 600, 1000, 1000, 1100), true},
		{ms(4000, 4001, 200, 4000, 4002), false},
		{ms(2000, 2000, 2000), false},
		{ms(500, 500, 1000, 500), false},
	} {
		facts, err := steady(c.gaps)
		if (err == nil) != c.ok || (facts != "") != c.ok {
			t.Errorf("%v: %q, %v", c.gaps, facts, err)
		}
	}
}

// Only announces of the victim itself, from its own address, count.
func TestListens(t *testing.T) {
	t.Parallel()
	free, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	udp := free.LocalAddr().(*net.UDPAddr).Port
	free.Close()
	to, err := net.Dial("udp4", (&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: udp}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	good := nxsb.Announce{DeviceID: "node-b", Port: sessionPort, Key: deviceOf(t, "node-b").Key.Public}
	otherID, otherKey := good, good
	otherID.DeviceID, otherKey.Key[0] = "node-x", 1
	listen := func(args ...string) (int, string, string) {
		return hostile(t, append([]string{"-config", identity(t), "-peer", "127.0.0.1", "-udp", port(free.LocalAddr()), "listens"}, args...)...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	sending.Go(func() {
		for wait(ctx, 20*time.Millisecond) {
			for _, a := range []nxsb.Announce{otherID, good, otherKey} {
				datagram, err := nxsb.Append(nil, a)
				if err != nil {
					t.Error(err)
				}
				to.Write(datagram)
			}
			to.Write([]byte("NXSB"))
		}
	})
	status, stdout, stderr := listen("-count", "5")
	if strings.Contains(stderr, "join 239.42.0.1") {
		t.Skipf("this host's loopback interface carries no multicast: %s", stderr)
	}
	if status != 1 || stdout != "" || !strings.Contains(stderr, "want each 1s") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}

// A victim that says nothing is not taken for one that is in time.
func TestListensToNothing(t *testing.T) {
	t.Parallel()
	free, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	status, stdout, stderr := hostile(t, "-config", identity(t), "-peer", "127.0.0.1", "-udp", port(free.LocalAddr()), "listens", "-count", "1")
	if strings.Contains(stderr, "join 239.42.0.1") {
		t.Skipf("this host's loopback interface carries no multicast: %s", stderr)
	}
	if status != 1 || stdout != "" || !strings.Contains(stderr, "0 gaps between announces within ") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}
