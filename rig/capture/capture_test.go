package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/netnstest"
	"dsoftbus-rig/rig/record"
)

// Tests of the socket need a network of their own.
func TestMain(m *testing.M) { netnstest.Main(m) }

// network makes a network with two ports that are held open.
func network(t testing.TB) (*lan.LAN, map[string]*os.File) {
	t.Helper()
	netnstest.Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	l, err := lan.New(ctx, lan.Config{})
	var lacking *lan.HostError
	if errors.As(err, &lacking) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	taps := map[string]*os.File{}
	t.Cleanup(func() {
		for _, tap := range taps {
			tap.Close()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"A", "B"} {
		port, err := l.AddPort("tap" + name)
		if err != nil {
			t.Fatal(err)
		}
		if taps[name], err = port.Open(); err != nil {
			t.Fatal(err)
		}
	}
	return l, taps
}

func started(t testing.TB, l *lan.LAN) (*Capture, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), record.CaptureFile)
	c := New(path, 1<<30)
	c.Start(l.BridgeIndex(), func(link string) string {
		name, _ := strings.CutPrefix(link, "tap")
		return name
	})
	c.Await()
	return c, path
}

// send has a machine send a frame to all, with a number in it.
func send(t testing.TB, tap *os.File, number uint32, size int) {
	t.Helper()
	frame := make([]byte, 10+size) // a virtio_net_hdr comes first
	copy(frame[10:], "\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x0a\x88\xb5")
	binary.BigEndian.PutUint32(frame[10+14:], number)
	if _, err := tap.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// Each frame is there once, on the interface of whoever sent it, in order, though the bridge copies it for everybody.
func TestEachFrameOnce(t *testing.T) {
	l, taps := network(t)
	c, path := started(t, l)
	c.Event(record.Event{Kind: record.KindStepStart, Line: 1, Text: "up"})
	const each = 500
	for i := range uint32(each) {
		send(t, taps["A"], 2*i, 100)
		send(t, taps["B"], 2*i+1, 1514)
	}
	// The rig asks for the address of somebody who is not there.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.42.0.99:9")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	stats, err := c.Stop(true)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Lost != 0 || stats.Unwritten != 0 {
		t.Errorf("stats %+v", stats)
	}
	next, rigs := uint32(0), 0
	for i, p := range packets(t, path) {
		if p.from == RigInterface {
			rigs++
			continue
		}
		if want := []string{"A", "B"}[next%2]; p.from != want || binary.BigEndian.Uint32(p.data[14:]) != next {
			t.Fatalf("packet %d is of %s and has %x, not of %s and %d", i, p.from, p.data[:18], want, next)
		}
		if len(p.comments) != 0 != (next == 0) {
			t.Errorf("packet %d has the comments %q", i, p.comments)
		}
		next++
	}
	if next != 2*each || rigs == 0 {
		t.Errorf("%d frames of nodes, not %d, and %d of the rig", next, 2*each, rigs)
	}
}

// What the reader is too late for is counted, and what was there before and after is whole.
func TestLost(t *testing.T) {
	l, taps := network(t)
	c, path := started(t, l)
	c.notes.mu.Lock() // the reader waits for it
	const sent, size = 20_000, 1514
	for i := range uint32(sent) {
		send(t, taps["A"], i, size)
	}
	c.notes.mu.Unlock()
	stats, err := c.Stop(true)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Lost == 0 || stats.Frames+stats.Lost != sent {
		t.Errorf("%d frames sent, %+v", sent, stats)
	}
	got := packets(t, path)
	if uint64(len(got)-1) != stats.Frames {
		t.Fatalf("%d packets", len(got))
	}
	if said := got[len(got)-1].comments; len(said) != 1 || !strings.Contains(said[0], fmt.Sprintf("lacks %d frames", stats.Lost)) {
		t.Errorf("the end says %q", said)
	}
}

// While a capture goes on, what was sent before Sync is there to be read after
// it, whether more follows or not.
func TestSync(t *testing.T) {
	l, taps := network(t)
	c, path := started(t, l)
	var sent uint32
	for _, more := range []bool{false, true, false} {
		stop, stopped := make(chan struct{}), make(chan struct{})
		for range 50 {
			send(t, taps["A"], sent, 100)
			sent++
		}
		go func() {
			defer close(stopped)
			for n := uint32(0); more; n++ {
				select {
				case <-stop:
					return
				default:
					send(t, taps["B"], n, 1514)
				}
			}
		}()
		c.Sync(t.Context())
		close(stop)
		<-stopped
		var next uint32
		all, _ := packetsUntil(t, path) // its end may be in the middle of a packet of B's
		for _, p := range all {
			if p.from == "A" {
				next++
			}
		}
		if next != sent {
			t.Errorf("%d frames of %d are there (more follow: %t)", next, sent, more)
		}
	}
	if _, err := c.Stop(true); err != nil {
		t.Fatal(err)
	}
	c.Sync(t.Context()) // is over at once
	(*Capture)(nil).Sync(t.Context())
}

func TestDropped(t *testing.T) {
	l, taps := network(t)
	c, path := started(t, l)
	send(t, taps["A"], 0, 100)
	if _, err := c.Stop(false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// A file that cannot be made is said at the end, and nobody waits for it.
func TestNoFile(t *testing.T) {
	l, _ := network(t)
	c := New(filepath.Join(t.TempDir(), "nowhere", record.CaptureFile), 0)
	c.Start(l.BridgeIndex(), func(string) string { return "" })
	c.Await()
	if _, err := c.Stop(true); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkFrames sends frames into a port, alone and captured: what capturing costs is the difference in processor time, which the host's other work
// does not change. Frames of 64 KiB are what machines send in a stream.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{1514, 64 << 10} {
		for _, captured := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/captured=%t", size, captured), func(b *testing.B) {
				l, taps := network(b)
				var c *Capture
				if captured {
					c, _ = started(b, l)
				}
				before := processorTime(b)
				for i := range b.N {
					send(b, taps["A"], uint32(i), size)
				}
				stats, err := c.Stop(true)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/frame")
				b.ReportMetric(float64(stats.Lost)/float64(b.N), "lost/frame")
			})
		}
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
