package dsoftbusd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"dsoftbus-rig/nodes/localapi"
)

// AnnounceConn is where announces go out and come in. Announce and Receive are each called from one goroutine.
type AnnounceConn interface {
	// Announce sends one datagram to every device in reach. An error means that none could hear it; it is tried again.
	Announce(datagram []byte) error
	// Receive waits for a datagram of anyone and gives its length and the sender's address. net.ErrClosed ends it.
	Receive(buf []byte) (n int, from netip.Addr, err error)
	Close() error
}

// Network is everything that Run listens on and sends through. Run takes it over and closes it.
type Network struct {
	Announces AnnounceConn
	Sessions  net.Listener // peers
	Port      uint16       // under which peers reach Sessions, as announced
	Programs  net.Listener // local programs, speaking localapi
	// Dial connects to a peer's Sessions.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

func (n Network) close() error {
	return errors.Join(n.Announces.Close(), n.Sessions.Close(), n.Programs.Close())
}

// LAN says where the daemon is to be found.
type LAN struct {
	Interface    string     // that announces go through; it may come up later
	Group        netip.Addr // multicast group of announces
	AnnouncePort uint16     // UDP
	Listen       string     // TCP address for sessions, e.g. ":34567"
	Socket       string     // path of the unix socket for local programs
}

// Open binds the sockets of the LAN. The interface need not be there yet.
func (l LAN) Open() (Network, error) {
	sessions, err := net.Listen("tcp", l.Listen)
	if err != nil {
		return Network{}, fmt.Errorf("listen for sessions on %s: %w", l.Listen, err)
	}
	announces, err := listenMulticast(l.Interface, netip.AddrPortFrom(l.Group, l.AnnouncePort))
	if err != nil {
		sessions.Close()
		return Network{}, err
	}
	programs, err := localapi.Listen("unix", l.Socket)
	if err != nil {
		sessions.Close()
		announces.Close()
		return Network{}, err
	}
	return Network{
		Announces: announces,
		Sessions:  sessions,
		Port:      uint16(sessions.Addr().(*net.TCPAddr).Port),
		Programs:  programs,
		Dial:      DialTCP,
	}, nil
}

// DialTCP connects to a peer over TCP.
func DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}
