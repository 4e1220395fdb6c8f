package dsoftbusd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// multicast sends and receives announces through one interface, which it joins the group on when the interface is there.
type multicast struct {
	iface  string
	group  *net.UDPAddr
	conn   *net.UDPConn
	packet *ipv4.PacketConn
	joined bool // the group is joined and sending goes through the interface, as far as known
}

func listenMulticast(iface string, group netip.AddrPort) (*multicast, error) {
	if !group.Addr().Is4() || !group.Addr().IsMulticast() {
		return nil, fmt.Errorf("announce to %s: not an IPv4 multicast group", group.Addr())
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// A diagnostic tool may listen to announces beside the daemon.
		var set error
		if err := raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}); err != nil {
			return err
		}
		return set
	}}
	// Every address and not the group's alone: an announce may also be sent to this machine only.
	c, err := config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", group.Port()))
	if err != nil {
		return nil, fmt.Errorf("listen for announces on UDP port %d: %w", group.Port(), err)
	}
	conn := c.(*net.UDPConn)
	return &multicast{iface: iface, group: net.UDPAddrFromAddrPort(group), conn: conn, packet: ipv4.NewPacketConn(conn)}, nil
}

// Announce implements AnnounceConn.
func (m *multicast) Announce(datagram []byte) error {
	if !m.joined {
		if err := m.join(); err != nil {
			return fmt.Errorf("announce through %s: %w", m.iface, err)
		}
		m.joined = true
	}
	if _, err := m.conn.WriteToUDP(datagram, m.group); err != nil {
		// The interface may have gone and come back as another one.
		m.joined = false
		return fmt.Errorf("announce through %s: %w", m.iface, err)
	}
	return nil
}

func (m *multicast) join() error {
	iface, err := net.InterfaceByName(m.iface)
	if err != nil {
		return err
	}
	if err := checkAddress(iface); err != nil {
		return err
	}
	if err := m.packet.JoinGroup(iface, m.group); err != nil && !errors.Is(err, syscall.EADDRINUSE) { // in use: joined before
		return fmt.Errorf("join %s: %w", m.group.IP, err)
	}
	if err := m.packet.SetMulticastInterface(iface); err != nil {
		return fmt.Errorf("send through it: %w", err)
	}
	if err := m.packet.SetMulticastTTL(1); err != nil { // 1: the LAN and no further
		return fmt.Errorf("set TTL: %w", err)
	}
	if err := m.packet.SetMulticastLoopback(false); err != nil {
		return fmt.Errorf("unset loopback: %w", err)
	}
	return nil
}

// checkAddress makes sure that an announce has a source that can be answered: without an address the kernel would send it
// from 0.0.0.0.
func checkAddress(iface *net.Interface) error {
	if iface.Flags&net.FlagUp == 0 {
		return syscall.ENETDOWN
	}
	addresses, err := iface.Addrs()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return nil
		}
	}
	return errors.New("it has no IPv4 address")
}

// Receive implements AnnounceConn.
func (m *multicast) Receive(buf []byte) (int, netip.Addr, error) {
	n, from, err := m.conn.ReadFromUDPAddrPort(buf)
	return n, from.Addr().Unmap(), err
}

// Close implements AnnounceConn.
func (m *multicast) Close() error { return m.conn.Close() }
