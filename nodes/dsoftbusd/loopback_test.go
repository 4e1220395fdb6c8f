package dsoftbusd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/session"
)

// loopback is a LAN of real sockets on 127.0.0.1, where each announce goes to every node's own port.
type loopback struct {
	mu    sync.Mutex
	hosts []*loopbackAnnounces
}

// loopbackAnnounces implements AnnounceConn.
type loopbackAnnounces struct {
	*net.UDPConn
	lan *loopback
}

// Announce implements AnnounceConn.
func (a *loopbackAnnounces) Announce(datagram []byte) error {
	a.lan.mu.Lock()
	defer a.lan.mu.Unlock()
	for _, to := range a.lan.hosts {
		if to != a {
			// A closed one is a machine that is off.
			a.WriteTo(datagram, to.LocalAddr())
		}
	}
	return nil
}

// Receive implements AnnounceConn.
func (a *loopbackAnnounces) Receive(buf []byte) (int, netip.Addr, error) {
	n, from, err := a.ReadFromUDPAddrPort(buf)
	return n, from.Addr().Unmap(), err
}

// network opens one node's sockets. dir is where its unix socket goes.
func (l *loopback) network(tb testing.TB, dir string) Network {
	tb.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	programs, err := localapi.Listen("unix", filepath.Join(dir, "dsoftbusd.sock"))
	if err != nil {
		tb.Fatal(err)
	}
	announces := &loopbackAnnounces{udp, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = append(l.hosts, announces)
	return Network{
		Announces: announces,
		Sessions:  tcp,
		Port:      uint16(tcp.Addr().(*net.TCPAddr).Port),
		Programs:  programs,
		Dial:      DialTCP,
	}
}

// tell sends a datagram of no node to one.
func tell(tb testing.TB, n *node, datagram []byte) {
	tb.Helper()
	c, err := net.Dial("udp4", n.network.Announces.(*loopbackAnnounces).LocalAddr().String())
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(datagram); err != nil {
		tb.Fatal(err)
	}
}

// machine is a node on the loopback LAN, and where its programs find it.
type machine struct {
	*node
	socket string
}

func (l *loopback) start(tb testing.TB, cfg Config, store *memStore) *machine {
	tb.Helper()
	dir := socketFolder(tb)
	return &machine{start(tb, cfg, l.network(tb, dir), store), filepath.Join(dir, "dsoftbusd.sock")}
}

// socketFolder makes a folder for a unix socket. The test's own can have a longer name than a socket may have.
func socketFolder(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// config is that of a device which is paired with the others. Where time is real, a host that is busy with something else
// must not look like a dead peer.
func config(tb testing.TB, id string, paired ...string) Config {
	limits := DefaultLimits()
	limits.DeadAfter = 30 * time.Second
	return Config{Device: deviceOf(tb, id), Pairings: pairedWith(tb, paired...), Limits: limits}
}

// twoMachines gives node-a and node-b with a session between them. Only node-b has files.
func twoMachines(tb testing.TB, files map[string][]byte) (ctx context.Context, a, b *machine) {
	tb.Helper()
	ctx = deadline(tb)
	lan := new(loopback)
	a = lan.start(tb, config(tb, "node-a", "node-b"), newStore(nil))
	b = lan.start(tb, config(tb, "node-b", "node-a"), newStore(files))
	a.markers.want(ctx, tb, "dsoftbusd: cross-vm session ok node-b")
	b.markers.want(ctx, tb, "dsoftbusd: cross-vm session ok node-a")
	return ctx, a, b
}

// deadline is what no test on the loopback LAN comes near.
func deadline(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// open gives a program's way from a machine to a peer.
func (m *machine) open(ctx context.Context, tb testing.TB, peer string) *remotefs.Client {
	tb.Helper()
	c, err := remotefs.Dial(ctx, m.socket, peer, remotefs.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// visit connects to a machine's session port.
func visit(tb testing.TB, m *machine) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp4", m.network.Sessions.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// handshakeAs is the dialler's side of a handshake with node-b's machine, on a stranger's connection.
func handshakeAs(tb testing.TB, m *machine, key session.KeyPair, id string) (*session.Conn, error) {
	tb.Helper()
	target := deviceOf(tb, "node-b")
	return session.Initiate(visit(tb, m), session.Config{Static: key, DeviceID: id}, target.Key.Public)
}

// closedWithoutAnswer says whether a connection ended before a byte came. A reset is what a listener's end looks like that
// has not read everything.
func closedWithoutAnswer(c net.Conn) bool {
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}
