package lan

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A wire leads from the host to one machine, which need not answer any question first, and is no part of the network. Its frames are bare.
func TestWire(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{Bare: true})
	machine, mac := netip.MustParseAddr("10.43.0.2"), net.HardwareAddr{0x52, 0x54, 0, 1, 0, 10}
	wire, err := l.AddWire("ctlA", netip.MustParsePrefix("10.43.0.1/30"), machine, mac)
	if err != nil {
		t.Fatal(err)
	}
	tap, err := wire.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	port, err := l.AddPort("tapA")
	if err != nil {
		t.Fatal(err)
	}
	other, err := port.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()

	dialling, stop := context.WithCancel(ctx)
	defer stop()
	dialled := make(chan error)
	go func() {
		var d net.Dialer
		conn, err := d.DialContext(dialling, "tcp4", netip.AddrPortFrom(machine, 7).String())
		if err == nil {
			err = errors.Join(errors.New("connected, though nobody listens"), conn.Close())
		}
		dialled <- err
	}()
	frame := make([]byte, 2048)
	if err := tap.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	n, err := tap.Read(frame)
	if err != nil {
		t.Fatal(err)
	}
	frame = frame[:n]
	// Ethernet, then IPv4 with protocol 6 and the machine's address.
	if n < 54 || !bytes.Equal(frame[:6], mac) || !isType(frame, unix.ETH_P_IP) || frame[23] != unix.IPPROTO_TCP || !bytes.Equal(frame[30:34], machine.AsSlice()) {
		t.Fatalf("the first frame is % x", frame)
	}
	stop()
	if err := <-dialled; !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection that nobody answered: %v", err)
	}
	// Nothing of that was on the network.
	if err := other.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := other.Read(frame[:cap(frame)])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(frame[:n], machine.AsSlice()) {
			t.Errorf("a port got % x", frame[:n])
		}
	}
}
