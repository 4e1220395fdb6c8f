package hostile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"dsoftbus-rig/protocol/nxsb"
)

// The contract's section 1: the group of announces, and how often a device announces itself.
var announceGroup = net.UDPAddr{IP: net.IPv4(239, 42, 0, 1)}

const (
	announcePeriod = time.Second
	// A machine that is emulated and busy announces late and then in time again, which the median does not show.
	shortestPeriod = 800 * time.Millisecond
	longestPeriod  = 1500 * time.Millisecond
)

// listens measures how often the victim announces itself, by this machine's clock.
func listens(ctx context.Context, r *request) (string, error) {
	conn, err := r.joinGroup()
	if err != nil {
		return "", fmt.Errorf("listen to announces: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	limit := time.Duration(r.count+5) * longestPeriod
	conn.SetReadDeadline(time.Now().Add(limit))
	var gaps []time.Duration
	var last time.Time
	buf := make([]byte, 2048)
	for len(gaps) < r.count {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "", fmt.Errorf("%d gaps between announces within %s, want %d of %s: %v", len(gaps), limit, r.count, announcePeriod, gaps)
		}
		if err != nil {
			return "", err
		}
		a, err := nxsb.Parse(buf[:n])
		if err != nil || from.Addr().Unmap() != r.peer.Addr() || a.DeviceID != r.victim.ID || a.Key != r.victim.Key {
			continue
		}
		if !last.IsZero() {
			gaps = append(gaps, now.Sub(last))
		}
		last = now
	}
	return steady(gaps)
}

// steady checks the gaps between announces by their median.
func steady(gaps []time.Duration) (string, error) {
	sorted := slices.Sorted(slices.Values(gaps))
	median := sorted[len(sorted)/2]
	if median < shortestPeriod || median > longestPeriod {
		return "", fmt.Errorf("an announce each %s, the median of %v; want each %s", median, gaps, announcePeriod)
	}
	return fmt.Sprintf("gaps=%d median_ms=%d shortest_ms=%d longest_ms=%d", len(gaps), median.Milliseconds(),
		sorted[0].Milliseconds(), sorted[len(sorted)-1].Milliseconds()), nil
}

// joinGroup hears what is announced to the group on the network of the victim, beside this machine's own dsoftbusd.
func (r *request) joinGroup() (*net.UDPConn, error) {
	iface, err := r.wayTo(r.peer.Addr())
	if err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(err, set)
	}}
	c, err := config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", r.udp.Port()))
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	if err := ipv4.NewPacketConn(conn).JoinGroup(iface, &announceGroup); err != nil {
		conn.Close()
		return nil, fmt.Errorf("join %s on %s: %w", announceGroup.IP, iface.Name, err)
	}
	return conn, nil
}

// wayTo gives the interface that leads to an address.
func (r *request) wayTo(peer netip.Addr) (*net.Interface, error) {
	c, err := r.tell()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	own := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(own.AsSlice()) {
				return &i, nil
			}
		}
	}
	return nil, fmt.Errorf("no interface has the address %s, from which %s is reached", own, peer)
}
