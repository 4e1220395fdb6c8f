package lan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// UDP sends one datagram to a machine, to a multicast group or to a broadcast address of the network. It comes from the rig's own
// address when from has none, or that one, and from a port of the kernel's choice when from has none. Any other address is written into the
// packet as it is, with the destination's port as source port when from has none.
//
// That nobody takes the datagram is no error.
func (l *LAN) UDP(ctx context.Context, from, to netip.AddrPort, payload []byte) error {
	err := ctx.Err()
	switch {
	case err != nil:
		err = context.Cause(ctx)
	case !to.Addr().Is4():
		err = errors.New("the destination is not IPv4")
	case !from.Addr().IsValid(), from.Addr() == l.Addr():
		err = l.sendOwn(from.Port(), to, payload)
	case !from.Addr().Is4(), from.Addr().IsUnspecified():
		err = errors.New("the source is not an IPv4 address")
	default:
		err = l.sendSpoofed(from, to, payload)
	}
	if err != nil {
		return fmt.Errorf("send %d byte datagram to %s: %w", len(payload), to, err)
	}
	return nil
}

// onBridge makes a socket send through the bridge whatever the routes say (groups and 255.255.255.255 have none), and to everybody.
func (l *LAN) onBridge(fd int) error {
	return errors.Join(
		unix.BindToDevice(fd, l.cfg.Bridge),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
	)
}

func (l *LAN) sendOwn(port uint16, to netip.AddrPort, payload []byte) error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: l.Addr().AsSlice(), Port: int(port)})
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = l.onBridge(int(fd)) }); err != nil || cerr != nil {
		return errors.Join(err, cerr)
	}
	_, err = c.WriteToUDPAddrPort(payload, to)
	return err
}

func (l *LAN) sendSpoofed(from, to netip.AddrPort, payload []byte) (err error) {
	if most := l.cfg.MTU - ipHeader - udpHeader; len(payload) > most {
		return fmt.Errorf("a datagram with a foreign source is not fragmented: at most %d bytes", most)
	}
	// IPPROTO_RAW: the packet brings its IP header along. Such a socket receives nothing.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := l.onBridge(fd); err != nil {
		return err
	}
	if from.Port() == 0 {
		from = netip.AddrPortFrom(from.Addr(), to.Port())
	}
	packet := appendUDP(nil, from, to, payload)
	for {
		err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

const (
	ipHeader  = 20
	udpHeader = 8
)

// appendUDP appends an IPv4 packet with a UDP datagram (RFC 791, RFC 768). The identification is left to the kernel, which numbers packets
// that have none.
func appendUDP(dst []byte, from, to netip.AddrPort, payload []byte) []byte {
	ttl := byte(64)
	if to.Addr().IsMulticast() {
		ttl = 1
	}
	src, dest := from.Addr().As4(), to.Addr().As4()
	length := udpHeader + len(payload)
	start := len(dst)

	dst = append(dst, 4<<4|ipHeader/4, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(ipHeader+length))
	dst = append(dst, 0, 0, 0, 0, ttl, unix.IPPROTO_UDP, 0, 0)
	dst = append(dst, src[:]...)
	dst = append(dst, dest[:]...)
	ip := dst[start:]
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip))

	dst = binary.BigEndian.AppendUint16(dst, from.Port())
	dst = binary.BigEndian.AppendUint16(dst, to.Port())
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)
	udp := dst[start+ipHeader:]
	pseudo := uint32(sum(0, dst[start+12:start+ipHeader])) + unix.IPPROTO_UDP + uint32(length)
	check := ^sum(pseudo, udp)
	if check == 0 {
		check = 0xffff // 0 on the wire means "no checksum"
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return dst
}

// sum adds b to the ones' complement sum s, as 16 bit words.
func sum(s uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
