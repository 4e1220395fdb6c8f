package dsoftbusd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeLAN is a network in memory on which nothing takes time, for tests that run in a bubble of synctest.
type fakeLAN struct {
	mu      sync.Mutex
	hosts   map[netip.Addr]*fakeHost
	dials   []dialled
	waiting int // attempts that are being swallowed
	most    int // the most of them at a time
}

// dialled is an attempt to connect, and when it was made.
type dialled struct {
	to netip.AddrPort
	at time.Time
}

func newFakeLAN() *fakeLAN { return &fakeLAN{hosts: make(map[netip.Addr]*fakeHost)} }

// fakeHost is one machine on the LAN. It implements AnnounceConn, and net.Listener for its sessions.
type fakeHost struct {
	lan      *fakeLAN
	addr     netip.Addr
	port     uint16
	inbox    chan datagram
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu        sync.Mutex
	down      bool        // its announces fail
	swallows  bool        // connections to it neither succeed nor fail
	refuses   bool        // connections to it are refused
	cut       bool        // nothing crosses its cable: announces are lost, connections swallowed
	announced []time.Time // when it announced
	conns     []*fakeConn // its ends of connections
}

type datagram struct {
	from netip.Addr
	data []byte
}

// host attaches a machine at 10.0.0.n.
func (l *fakeLAN) host(n byte) *fakeHost { return l.hostAt(netip.AddrFrom4([4]byte{10, 0, 0, n})) }

func (l *fakeLAN) hostAt(addr netip.Addr) *fakeHost {
	h := &fakeHost{
		lan:      l,
		addr:     addr,
		port:     34567,
		inbox:    make(chan datagram, 1024),
		accepted: make(chan net.Conn, 64),
		closed:   make(chan struct{}),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[h.addr] = h
	return h
}

// network is what a daemon on the host gets.
func (h *fakeHost) network() Network {
	return Network{Announces: h, Sessions: h, Port: h.port, Programs: newFakePrograms(), Dial: h.dial}
}

func (h *fakeHost) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// announcedAt gives when the host announced since this was last asked.
func (h *fakeHost) announcedAt() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	times := h.announced
	h.announced = nil
	return times
}

// Announce implements AnnounceConn.
func (h *fakeHost) Announce(data []byte) error {
	h.mu.Lock()
	if h.down {
		h.mu.Unlock()
		return syscall.ENETUNREACH
	}
	h.announced = append(h.announced, time.Now())
	cut := h.cut
	h.mu.Unlock()
	if cut {
		return nil
	}
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	for _, to := range h.lan.hosts {
		if to != h {
			to.deliver(h.addr, data)
		}
	}
	return nil
}

// deliver puts a datagram into the host's inbox, or drops it when that is full, like a socket.
func (h *fakeHost) deliver(from netip.Addr, data []byte) {
	if h.isCut() {
		return
	}
	select {
	case h.inbox <- datagram{from, append([]byte(nil), data...)}:
	default:
	}
}

// Receive implements AnnounceConn.
func (h *fakeHost) Receive(buf []byte) (int, netip.Addr, error) {
	select {
	case d := <-h.inbox:
		return copy(buf, d.data), d.from, nil
	case <-h.closed:
		return 0, netip.Addr{}, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (h *fakeHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.accepted:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close takes the host off the LAN. Its connections stay, as those of a machine do whose program closed its listener.
func (h *fakeHost) Close() error {
	h.once.Do(func() {
		close(h.closed)
		h.lan.mu.Lock()
		defer h.lan.mu.Unlock()
		if h.lan.hosts[h.addr] == h {
			delete(h.lan.hosts, h.addr)
		}
	})
	return nil
}

// Addr implements net.Listener.
func (h *fakeHost) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.addr, h.port))
}

// dial connects the host to another one.
func (h *fakeHost) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	h.lan.mu.Lock()
	h.lan.dials = append(h.lan.dials, dialled{to, time.Now()})
	target := h.lan.hosts[to.Addr()]
	h.lan.mu.Unlock()
	if target == nil || target.port != to.Port() {
		return nil, syscall.ECONNREFUSED
	}
	target.mu.Lock()
	refuses, swallows := target.refuses, target.swallows
	target.mu.Unlock()
	if swallows {
		h.lan.swallow(1)
		defer h.lan.swallow(-1)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	// TCP asks again after a second, and then after two more.
	for wait := time.Second; h.isCut() || target.isCut(); wait *= 2 {
		if !pause(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
	if refuses {
		return nil, syscall.ECONNREFUSED
	}
	near, far := newFakeConn(h, target)
	target.accepted <- far
	return near, nil
}

func (h *fakeHost) isCut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut
}

// pull takes the host's cable out: its connections are dead from now on. plug puts it in again.
func (h *fakeHost) pull() {
	h.set(func() { h.cut = true })
	h.freeze()
}

func (h *fakeHost) plug() { h.set(func() { h.cut = false }) }

// freeze cuts every connection of the host without a word, as a power cut does: what the others send goes nowhere.
func (h *fakeHost) freeze() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.freeze()
	}
}

func (l *fakeLAN) swallow(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting += by
	l.most = max(l.most, l.waiting)
}

func (l *fakeLAN) mostWaiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

func (l *fakeLAN) attempts() []dialled {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]dialled(nil), l.dials...)
}

// fakeConn is one end of a connection with a buffer in each direction, of no bound: nobody waits to write.
type fakeConn struct {
	local, remote *fakeHost
	in, out       *fakeStream
	deadline      fakeDeadline
	closed        chan struct{}
	once          sync.Once
}

func newFakeConn(a, b *fakeHost) (*fakeConn, *fakeConn) {
	ab, ba := newFakeStream(), newFakeStream()
	ca := &fakeConn{local: a, remote: b, in: ba, out: ab, deadline: newFakeDeadline(), closed: make(chan struct{})}
	cb := &fakeConn{local: b, remote: a, in: ab, out: ba, deadline: newFakeDeadline(), closed: make(chan struct{})}
	a.set(func() { a.conns = append(a.conns, ca) })
	b.set(func() { b.conns = append(b.conns, cb) })
	return ca, cb
}

// fakeStream is one direction.
type fakeStream struct {
	mu      sync.Mutex
	data    []byte
	ended   error // what a reader gets after the data
	unread  bool  // its reader has closed: writes are reset
	frozen  bool  // writes go nowhere, and neither end is seen by the other
	writes  int
	changed chan struct{}
}

func newFakeStream() *fakeStream { return &fakeStream{changed: make(chan struct{})} }

// written gives how often it was written to.
func (s *fakeStream) written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

func (s *fakeStream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (c *fakeConn) freeze() {
	c.in.change(func() { c.in.frozen = true })
	c.out.change(func() { c.out.frozen = true })
}

var errReset = errors.New("connection reset")

// Read implements net.Conn.
func (c *fakeConn) Read(p []byte) (int, error) {
	for {
		c.in.mu.Lock()
		n := copy(p, c.in.data)
		c.in.data = c.in.data[n:]
		ended, changed := c.in.ended, c.in.changed
		c.in.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if ended != nil {
			return 0, ended
		}
		expired, moved := c.deadline.get()
		select {
		case <-c.closed:
			return 0, net.ErrClosed
		case <-changed:
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		case <-moved:
		}
	}
}

// Write implements net.Conn.
func (c *fakeConn) Write(p []byte) (int, error) {
	c.out.mu.Lock()
	unread := c.out.unread
	c.out.mu.Unlock()
	if unread {
		return 0, errReset
	}
	c.out.change(func() {
		c.out.writes++
		if !c.out.frozen {
			c.out.data = append(c.out.data, p...)
		}
	})
	return len(p), nil
}

// Close implements net.Conn.
func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.in.change(func() { c.in.unread = !c.in.frozen })
	c.out.change(func() {
		if !c.out.frozen {
			c.out.ended = io.EOF
		}
	})
	return nil
}

// LocalAddr implements net.Conn.
func (c *fakeConn) LocalAddr() net.Addr { return c.local.Addr() }

// RemoteAddr implements net.Conn.
func (c *fakeConn) RemoteAddr() net.Addr { return c.remote.Addr() }

// SetDeadline implements net.Conn.
func (c *fakeConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *fakeConn) SetReadDeadline(t time.Time) error { c.deadline.set(t); return nil }

// SetWriteDeadline implements net.Conn: no write waits.
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// fakeDeadline turns a deadline into channels.
type fakeDeadline struct{ state *deadlineState }

type deadlineState struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{}
	moved   chan struct{}
}

func newFakeDeadline() fakeDeadline {
	return fakeDeadline{&deadlineState{expired: make(chan struct{}), moved: make(chan struct{})}}
}

func (d fakeDeadline) get() (expired, moved <-chan struct{}) {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	return d.state.expired, d.state.moved
}

func (d fakeDeadline) set(t time.Time) {
	s := d.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	expired := make(chan struct{})
	s.expired = expired
	close(s.moved)
	s.moved = make(chan struct{})
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		s.timer = time.AfterFunc(wait, func() { close(expired) })
	} else {
		close(expired)
	}
}

// fakePrograms is a socket that programs connect to in memory.
type fakePrograms struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newFakePrograms() *fakePrograms {
	return &fakePrograms{conns: make(chan net.Conn, 64), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (p *fakePrograms) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *fakePrograms) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *fakePrograms) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// connect gives a program's end of a new connection to the daemon of n.
func (n *node) connect(tb testing.TB, host *fakeHost) *fakeConn {
	near, far := newFakeConn(host, host)
	n.network.Programs.(*fakePrograms).conns <- far
	tb.Cleanup(func() { near.Close() })
	return near
}
