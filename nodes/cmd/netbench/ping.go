package netbench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const (
	maxCount     = 100_000
	warmUpEchoes = 3               // the first one asks for the peer's hardware address, too
	echoTime     = 2 * time.Second // after it an echo is lost
	echoBytes    = 56              // what ping sends by default
	protocolICMP = 1
)

// ping times echoes, one after the other.
func ping(ctx context.Context, r *request) error {
	if !r.peer.Addr().Unmap().Is4() {
		return fmt.Errorf("ping %s: only IPv4 is known here", r.peer.Addr())
	}
	p, err := newPinger(r.peer.Addr().Unmap())
	if err != nil {
		return fmt.Errorf("ping %s: %w", r.peer.Addr(), err)
	}
	defer p.conn.Close()
	defer context.AfterFunc(ctx, func() { p.conn.Close() })()
	var took []time.Duration
	for i := range warmUpEchoes + r.count {
		d, err := p.echo()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		case errors.Is(err, os.ErrDeadlineExceeded): // lost
		case err != nil:
			return fmt.Errorf("ping %s: %w", r.peer.Addr(), err)
		case i >= warmUpEchoes:
			took = append(took, d)
		}
	}
	if len(took) == 0 {
		return fmt.Errorf("ping %s: none of %d echoes was answered within %s", r.peer.Addr(), r.count, echoTime)
	}
	slices.Sort(took)
	_, err = fmt.Fprintf(r.stdout, "count=%d lost=%d min_us=%d median_us=%d p95_us=%d max_us=%d\n", r.count, r.count-len(took),
		took[0].Microseconds(), rank(took, 50).Microseconds(), rank(took, 95).Microseconds(), took[len(took)-1].Microseconds())
	return err
}

// rank gives the nearest-rank percentile of sorted values, of which there is at least one.
func rank(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

// pinger sends echoes to one machine.
type pinger struct {
	conn *icmp.PacketConn
	raw  bool // a raw socket sees everybody's messages; a ping socket only its own, under an id of the kernel's choice
	to   netip.Addr
	dst  net.Addr
	next icmp.Echo // the one sent last, then with the next number
	buf  [1500]byte
}

// newPinger opens a raw socket, or where that is not allowed a ping socket.
func newPinger(to netip.Addr) (*pinger, error) {
	p := &pinger{to: to, raw: true, dst: &net.IPAddr{IP: to.AsSlice()}}
	var err error
	if p.conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0"); errors.Is(err, os.ErrPermission) {
		p.raw, p.dst = false, &net.UDPAddr{IP: to.AsSlice()}
		p.conn, err = icmp.ListenPacket("udp4", "0.0.0.0")
	}
	if err != nil {
		return nil, err
	}
	p.next = icmp.Echo{ID: os.Getpid() & 0xffff, Data: bytes.Repeat([]byte{0x5a}, echoBytes)}
	return p, nil
}

// echo sends one echo and waits for its answer. os.ErrDeadlineExceeded means that none came.
func (p *pinger) echo() (time.Duration, error) {
	p.next.Seq = (p.next.Seq + 1) & 0xffff
	message, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &p.next}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	p.conn.SetDeadline(start.Add(echoTime))
	if _, err := p.conn.WriteTo(message, p.dst); err != nil {
		return 0, err
	}
	for {
		n, from, err := p.conn.ReadFrom(p.buf[:])
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		if p.answers(p.buf[:n], from) {
			return took, nil
		}
	}
}

// answers says whether a message answers the latest echo.
func (p *pinger) answers(message []byte, from net.Addr) bool {
	if addressOf(from) != p.to {
		return false
	}
	m, err := icmp.ParseMessage(protocolICMP, message)
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
		return false
	}
	e, ok := m.Body.(*icmp.Echo)
	return ok && e.Seq == p.next.Seq && (!p.raw || e.ID == p.next.ID) && bytes.Equal(e.Data, p.next.Data)
}

func addressOf(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.IPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	address, _ := netip.AddrFromSlice(ip)
	return address.Unmap()
}
