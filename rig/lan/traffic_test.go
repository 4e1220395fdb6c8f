package lan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A peer is a machine with the kernel's own network stack: a namespace that a veth joins to the bridge.
type peer struct {
	t    *testing.T
	addr netip.Addr
	dev  string
	jobs chan func()
}

func newPeer(t *testing.T, ctx context.Context, l *LAN, n byte) *peer {
	t.Helper()
	p := &peer{t: t, addr: netip.AddrFrom4([4]byte{10, 42, 0, n}), dev: "eth0", jobs: make(chan func())}
	ready := make(chan error)
	var ns netns.NsHandle
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the goroutine
		var err error
		ns, err = netns.New()
		ready <- err
		for job := range p.jobs {
			job()
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(p.jobs)
		wg.Wait()
		ns.Close()
	})
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = "veth", l.bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: p.dev, PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(veth); err != nil {
			t.Error(err)
		}
	})
	if err := netlink.LinkSetUp(veth); err != nil {
		t.Fatal(err)
	}
	p.do(func() error {
		dev, err := netlink.LinkByName(p.dev)
		if err != nil {
			return err
		}
		return errors.Join(
			netlink.AddrAdd(dev, &netlink.Addr{IPNet: &net.IPNet{IP: p.addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}),
			netlink.LinkSetUp(dev),
		)
	})
	waitForwarding(t, ctx, "veth")
	return p
}

// waitForwarding waits until the bridge passes frames to and from a link.
func waitForwarding(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	updates := make(chan netlink.LinkUpdate)
	done := make(chan struct{})
	if err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		close(done)
		for range updates {
		}
	}()
	const forwarding = 3 // BR_STATE_FORWARDING
	for portState(t, name) != forwarding {
		select {
		case <-updates:
		case <-ctx.Done():
			t.Fatalf("%s is still not forwarding", name)
		}
	}
}

func portState(t *testing.T, name string) byte {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	answers, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range answers {
		if int(nl.DeserializeIfInfomsg(m).Index) != link.Attrs().Index {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfInfomsg:])
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range attrs {
			if a.Attr.Type&^unix.NLA_F_NESTED != unix.IFLA_PROTINFO {
				continue
			}
			info, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range info {
				if i.Attr.Type == nl.IFLA_BRPORT_STATE {
					return i.Value[0]
				}
			}
		}
	}
	return 255
}

// do runs f in the peer's namespace.
func (p *peer) do(f func() error) {
	p.t.Helper()
	done := make(chan error)
	p.jobs <- func() { done <- f() }
	if err := <-done; err != nil {
		p.t.Fatal(err)
	}
}

// serve listens and gives every connection to handle, one at a time.
func (p *peer) serve(handle func(*net.TCPConn)) netip.AddrPort {
	p.t.Helper()
	var ln net.Listener
	p.do(func() (err error) {
		ln, err = net.Listen("tcp4", netip.AddrPortFrom(p.addr, 0).String())
		return err
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			handle(c.(*net.TCPConn))
			c.Close()
		}
	})
	p.t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}

// listen takes datagrams to a port, also those to the group when it is valid.
func (p *peer) listen(port int, group netip.Addr) *net.UDPConn {
	p.t.Helper()
	var c *net.UDPConn
	p.do(func() (err error) {
		if group.IsValid() {
			ifi, err := net.InterfaceByName(p.dev)
			if err != nil {
				return err
			}
			c, err = net.ListenMulticastUDP("udp4", ifi, &net.UDPAddr{IP: group.AsSlice(), Port: port})
			return err
		}
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	p.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func TestTCP(t *testing.T) {
	ctx := inNamespace(t)
	var notes []string
	l := newLAN(t, ctx, Config{Idle: 300 * time.Millisecond, Note: func(s string) { notes = append(notes, s) }})
	p := newPeer(t, ctx, l, 10)

	read := func(c *net.TCPConn, n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Errorf("peer: %v", err)
		}
		return b
	}
	var from net.Addr
	tests := []struct {
		name   string
		handle func(*net.TCPConn)
		send   string
		want   string
		note   string
	}{
		{"answer", func(c *net.TCPConn) { from = c.RemoteAddr(); c.Write(bytes.ToUpper(read(c, 5))) }, "hello", "HELLO", ""},
		{"nothing sent", func(c *net.TCPConn) { c.Write([]byte("banner")) }, "", "banner", ""},
		{"nothing said", func(c *net.TCPConn) { read(c, 5) }, "hello", "", ""},
		{"reset", func(c *net.TCPConn) { read(c, 5); c.SetLinger(0) }, "hello", "", "reset by the peer, with 0 bytes of answer"},
		{"no end of sending is shown", func(c *net.TCPConn) {
			read(c, 5)
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				c.Write([]byte("saw the end"))
			}
		}, "hello", "", ""},
		{"silence", func(c *net.TCPConn) { c.Write([]byte("wait")); io.Copy(io.Discard, c) }, "hello", "wait", "still open after 300ms of silence, with 4 bytes of answer"},
		{"too much", func(c *net.TCPConn) { read(c, 5); c.Write(make([]byte, 2*MaxAnswer)) }, "hello", string(make([]byte, MaxAnswer)), "cut short, with 1048576 bytes"},
		{"exactly as much", func(c *net.TCPConn) { read(c, 5); c.Write(make([]byte, MaxAnswer-1)) }, "hello", string(make([]byte, MaxAnswer-1)), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			notes = nil
			answer, err := l.TCP(ctx, p.serve(tt.handle), []byte(tt.send))
			if err != nil {
				t.Fatal(err)
			}
			if string(answer) != tt.want {
				t.Errorf("answer of %d bytes, %.60q; want %d, %.60q", len(answer), answer, len(tt.want), tt.want)
			}
			if got := strings.Join(notes, "\n"); tt.note == "" && got != "" || !strings.Contains(got, tt.note) {
				t.Errorf("notes %q, want %q", got, tt.note)
			}
		})
	}
	if host, _, _ := net.SplitHostPort(from.String()); host != "10.42.0.1" {
		t.Errorf("the peer saw the connection come from %s", host)
	}
}

func TestTCPComesFromTheBridge(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	// Left alone the kernel would take 127.0.0.1 for this.
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			fmt.Fprint(c, c.RemoteAddr())
			c.Close()
		}
	}()
	answer, err := l.TCP(ctx, netip.MustParseAddrPort(ln.Addr().String()), nil)
	if err != nil || !strings.HasPrefix(string(answer), "10.42.0.1:") {
		t.Errorf("connected from %s, %v", answer, err)
	}
}

func TestTCPResetWhileSending(t *testing.T) {
	ctx := inNamespace(t)
	var notes []string
	l := newLAN(t, ctx, Config{Note: func(s string) { notes = append(notes, s) }})
	p := newPeer(t, ctx, l, 10)
	to := p.serve(func(c *net.TCPConn) { c.Read(make([]byte, 1)) }) // closes with unread bytes: a reset
	answer, err := l.TCP(ctx, to, make([]byte, 32<<20))
	if err != nil || len(answer) != 0 {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "reset by the peer after") {
		t.Errorf("notes %q", notes)
	}
}

func TestTCPErrors(t *testing.T) {
	ctx := inNamespace(t)
	var notes []string
	l := newLAN(t, ctx, Config{Idle: time.Hour, Note: func(s string) { notes = append(notes, s) }})
	p := newPeer(t, ctx, l, 10)

	t.Run("refused", func(t *testing.T) {
		_, err := l.TCP(ctx, netip.AddrPortFrom(p.addr, 1), nil)
		if !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), "connect to 10.42.0.10:1") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("deadline while the answer comes", func(t *testing.T) {
		notes = nil
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		answer, err := l.TCP(short, p.serve(func(c *net.TCPConn) { c.Write([]byte("so far")); io.Copy(io.Discard, c) }), nil)
		if err != nil || string(answer) != "so far" || len(notes) != 1 || !strings.Contains(notes[0], "still open at the deadline") {
			t.Errorf("%q, %v, notes %q", answer, err, notes)
		}
	})
	t.Run("cancelled while the answer comes", func(t *testing.T) {
		why := errors.New("asked to stop")
		stopped, cancel := context.WithCancelCause(ctx)
		answer, err := l.TCP(stopped, p.serve(func(c *net.TCPConn) {
			c.Write([]byte("so far"))
			io.ReadFull(c, make([]byte, 1))
			cancel(why)
			io.Copy(io.Discard, c)
		}), []byte("x"))
		if !errors.Is(err, why) || !strings.HasPrefix("so far", string(answer)) {
			t.Errorf("%q, %v", answer, err)
		}
	})
	t.Run("deadline while sending", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		done := make(chan struct{})
		_, err := l.TCP(short, p.serve(func(*net.TCPConn) { <-done }), make([]byte, 32<<20))
		close(done)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "send to") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("over before it began", func(t *testing.T) {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := l.TCP(gone, netip.AddrPortFrom(p.addr, 1), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTCPPeerThatTakesNothing(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{Idle: 200 * time.Millisecond})
	p := newPeer(t, ctx, l, 10)
	done := make(chan struct{})
	to := p.serve(func(*net.TCPConn) { <-done })
	_, err := l.TCP(ctx, to, make([]byte, 32<<20))
	close(done)
	if err == nil || !strings.Contains(err.Error(), "of 33554432 bytes") {
		t.Errorf("error %v", err)
	}
}

func TestUDP(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	p := newPeer(t, ctx, l, 10)
	group := netip.MustParseAddr("239.42.0.1")
	plain := p.listen(4000, netip.Addr{})
	groups := p.listen(4001, group)

	tests := []struct {
		name    string
		from    string // "" is the rig's own
		to      string
		payload []byte
		want    string // source address, with its port when that is given
	}{
		{"own", "", "10.42.0.10:4000", []byte("hello"), "10.42.0.1"},
		{"own, named", "10.42.0.1", "10.42.0.10:4000", []byte("named"), "10.42.0.1"},
		{"own, with its port", "10.42.0.1:4321", "10.42.0.10:4000", []byte("port"), "10.42.0.1:4321"},
		{"own, empty", "", "10.42.0.10:4000", nil, "10.42.0.1"},
		{"own, in fragments", "", "10.42.0.10:4000", bytes.Repeat([]byte("f"), 5000), "10.42.0.1"},
		{"own, to a group", "", "239.42.0.1:4001", []byte("to all"), "10.42.0.1"},
		{"own, broadcast", "", "10.42.0.255:4000", []byte("broadcast"), "10.42.0.1"},
		{"own, broadcast everywhere", "", "255.255.255.255:4000", []byte("everywhere"), "10.42.0.1"},
		{"spoofed", "10.42.0.77", "10.42.0.10:4000", []byte("I am 77"), "10.42.0.77:4000"},
		{"spoofed, with a port", "10.42.0.77:1234", "10.42.0.10:4000", []byte("I am 77:1234"), "10.42.0.77:1234"},
		{"spoofed, odd length", "10.42.0.77", "10.42.0.10:4000", []byte("odd"), "10.42.0.77:4000"},
		{"spoofed, empty", "10.42.0.77", "10.42.0.10:4000", nil, "10.42.0.77:4000"},
		{"spoofed, full size", "10.42.0.77", "10.42.0.10:4000", bytes.Repeat([]byte{0xff}, 1472), "10.42.0.77:4000"},
		{"spoofed, to a group", "10.42.0.77", "239.42.0.1:4001", []byte("a lie for all"), "10.42.0.77:4001"},
		{"spoofed, broadcast", "10.42.0.77", "10.42.0.255:4000", []byte("a broadcast lie"), "10.42.0.77:4000"},
		{"spoofed, broadcast everywhere", "10.42.0.77", "255.255.255.255:4000", []byte("a lie everywhere"), "10.42.0.77:4000"},
	}
	buf := make([]byte, 1<<16)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var from netip.AddrPort
			if strings.Contains(tt.from, ":") {
				from = netip.MustParseAddrPort(tt.from)
			} else if tt.from != "" {
				from = netip.AddrPortFrom(netip.MustParseAddr(tt.from), 0)
			}
			to := netip.MustParseAddrPort(tt.to)
			if err := l.UDP(ctx, from, to, tt.payload); err != nil {
				t.Fatal(err)
			}
			c := plain
			if to.Port() == 4001 {
				c = groups
			}
			n, src, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(buf[:n], tt.payload) {
				t.Errorf("%.60q arrived, want %.60q", buf[:n], tt.payload)
			}
			if got := src.String(); got != tt.want && src.Addr().String() != tt.want {
				t.Errorf("from %s, want %s", got, tt.want)
			}
		})
	}
}

func TestUDPErrors(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	to := netip.MustParseAddrPort("10.42.0.10:4000")
	other := netip.MustParseAddr("10.42.0.77")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		from    netip.Addr
		to      netip.AddrPort
		payload int
		want    string
	}{
		{"too large to spoof", ctx, other, to, 1473, "at most 1472 bytes"},
		{"too large at all", ctx, netip.Addr{}, to, 65508, "message too long"},
		{"to IPv6", ctx, netip.Addr{}, netip.MustParseAddrPort("[fd00::1]:1"), 1, "destination is not IPv4"},
		{"from IPv6", ctx, netip.MustParseAddr("fd00::1"), to, 1, "source is not an IPv4 address"},
		{"from nowhere", ctx, netip.IPv4Unspecified(), to, 1, "source is not an IPv4 address"},
		{"over", gone, other, to, 1, "canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := l.UDP(tt.ctx, netip.AddrPortFrom(tt.from, 0), tt.to, make([]byte, tt.payload))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.to.String()) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestSpoofedOnTheWire looks at the frame itself, as a machine's card gets it.
func TestSpoofedOnTheWire(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	a := newStation(t, l, "A", 10)
	isUDP := func(f []byte) bool { return isType(f, 0x0800) && len(f) > 42 && f[14+9] == unix.IPPROTO_UDP }

	f := a.persuade(func() {
		if err := l.UDP(ctx, netip.MustParseAddrPort("10.42.0.77:0"), netip.MustParseAddrPort("239.42.0.1:37020"), []byte("NXSB?")); err != nil {
			t.Fatal(err)
		}
	}, isUDP)
	ip := f[14:]
	if ttl := ip[8]; ttl != 1 {
		t.Errorf("time to live %d in a group", ttl)
	}
	if src := netip.AddrFrom4([4]byte(ip[12:16])); src.String() != "10.42.0.77" {
		t.Errorf("source %s", src)
	}
	if !bytes.Equal(f[6:12], DefaultMAC) {
		t.Errorf("from the MAC %x, want the bridge's", f[6:12])
	}
	if want := []byte{0x01, 0x00, 0x5e, 42, 0, 1}; !bytes.Equal(f[:6], want) {
		t.Errorf("to the MAC %x, want the group's %x", f[:6], want)
	}
	if s := sum(0, ip[:20]); s != 0xffff {
		t.Errorf("header checksum is off: %#x", s)
	}

	// To one machine: the kernel asks for its address first, and the station answers.
	if err := l.UDP(ctx, netip.MustParseAddrPort("10.42.0.77:0"), netip.AddrPortFrom(a.ip, 37020), []byte("for A")); err != nil {
		t.Fatal(err)
	}
	f = a.receive("the datagram for A", func(f []byte) bool { return isUDP(f) && string(f[42:47]) == "for A" })
	if !bytes.Equal(f[:6], a.mac) || f[14+8] != 64 {
		t.Errorf("frame %x", f)
	}
}

func TestAppendUDP(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.42.0.77:53"), netip.MustParseAddrPort("10.42.0.10:4000")
	// The payload is chosen so that the checksum comes to 0, which must be sent as 0xffff.
	packet := appendUDP([]byte("kept"), from, to, []byte{0, 0})
	packet = packet[4:]
	check := binary.BigEndian.Uint16(packet[26:])
	zero := appendUDP(nil, from, to, binary.BigEndian.AppendUint16(nil, check))
	if got := binary.BigEndian.Uint16(zero[26:]); got != 0xffff {
		t.Errorf("checksum %#x, want 0xffff", got)
	}
	if length := binary.BigEndian.Uint16(packet[2:]); int(length) != len(packet) {
		t.Errorf("total length %d of %d", length, len(packet))
	}
}
