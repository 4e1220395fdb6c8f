package lan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Port is one machine's socket in the wall: a tap device in the bridge that stays when the machine goes, so that a machine can be
// started on it again.
type Port struct {
	lan  *LAN
	name string
	bare bool // no virtio_net_hdr in front of frames
}

// AddPort makes a port and a link of that name (1 to 15 letters, digits, ".", "_" or "-"). The port has a carrier while a machine holds it open.
func (l *LAN) AddPort(name string) (*Port, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &Port{lan: l, name: name, bare: l.cfg.Bare}
	if err := p.add(l.intoBridge, func(netlink.Link) error { return nil }); err != nil {
		return nil, fmt.Errorf("add port %s: %w", name, explainNetlink(err))
	}
	l.ports[name] = p
	return p, nil
}

// AddWire makes a tap of that name outside the bridge, whose other end is this host, with that address and network; the machine's address and MAC are known, so that
// one which is slow to answer is not taken for missing. It is no part of the network: faults do not know it, and nothing is forwarded to it. Frames on it are bare.
func (l *LAN) AddWire(name string, here netip.Prefix, machine netip.Addr, mac net.HardwareAddr) (*Port, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &Port{lan: l, name: name, bare: true}
	err := p.add(func(link netlink.Link) error {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: here.Addr().AsSlice(), Mask: net.CIDRMask(here.Bits(), 32)}}
		if err := l.handle.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give it the address %s: %w", here, err)
		}
		return nil
	}, func(link netlink.Link) error {
		neighbour := &netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: machine.AsSlice(), HardwareAddr: mac}
		if err := l.handle.NeighSet(neighbour); err != nil {
			return fmt.Errorf("say that %s is %s: %w", machine, mac, err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add wire %s: %w", name, explainNetlink(err))
	}
	return p, nil
}

// add makes the tap, attaches it to something, and does what takes a link that is up; the network is locked.
func (p *Port) add(attach, then func(netlink.Link) error) (err error) {
	l, name := p.lan, p.name
	if l.closed {
		return os.ErrClosed
	}
	if err := checkName(name); err != nil {
		return err
	}
	if l.ports[name] != nil {
		return errors.New("there is a port of that name")
	}
	// Without this look a tap of that name would be taken over, and any other link would answer with a bare EINVAL.
	if _, err := l.handle.LinkByName(name); err == nil {
		return errors.New("there is a link of that name")
	}
	fd, err := p.attach()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("make the tap persistent: %w", err)
	}
	link, err := l.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the new tap: %w", errors.Join(err, unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0)))
	}
	defer func() {
		if err != nil {
			if derr := l.handle.LinkDel(link); derr != nil {
				err = multierror.Append(err, derr)
			}
		}
	}()
	if err := l.handle.LinkSetMTU(link, l.cfg.MTU); err != nil {
		return fmt.Errorf("set its MTU to %d: %w", l.cfg.MTU, err)
	}
	if err := l.noAutoconf(link); err != nil {
		return err
	}
	if err := attach(link); err != nil {
		return err
	}
	if err := l.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	if err := then(link); err != nil {
		return err
	}
	l.undo("delete port "+name, func() error { return l.handle.LinkDel(link) })
	return nil
}

func (l *LAN) intoBridge(link netlink.Link) error {
	if err := l.handle.LinkSetMaster(link, l.bridge); err != nil {
		return fmt.Errorf("put it into %s: %w", l.cfg.Bridge, err)
	}
	return nil
}

// Name returns the port's name, which is that of its tap.
func (p *Port) Name() string { return p.name }

// Open returns the tap for one machine: QEMU takes it as -netdev tap,fd=N, handed over through ExtraFiles. Frames on it have a 10 byte
// virtio_net_hdr in front, as QEMU's tap expects, unless Config.Bare; no packet information. The port can be held by one process at a time, and is free again
// once every copy of the file is closed: close this one as soon as the machine is started.
func (p *Port) Open() (*os.File, error) {
	// The lock keeps Close out: attaching to a port that has just been deleted would make a link that nobody owns.
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	if p.lan.closed {
		return nil, fmt.Errorf("open port %s: %w", p.name, os.ErrClosed)
	}
	fd, err := p.attach()
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open port %s: a machine still holds it: %w", p.name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open port %s: %w", p.name, explainNetlink(err))
	}
	// An earlier machine may have negotiated a longer header and offloads; these stay with the device, not with the descriptor.
	if !p.bare {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, virtioHeader)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("reset port %s: %w", p.name, errors.Join(err, unix.Close(fd)))
	}
	return os.NewFile(uintptr(fd), p.lan.cfg.Tun), nil
}

// Counters are the frames and bytes of one port since it was made, seen from the machine.
type Counters struct {
	Sent, SentBytes         uint64 // what the machine put on the network
	Received, ReceivedBytes uint64 // what the network gave to the machine
	Lost                    uint64 // frames either way that the port dropped, say because no machine held it
}

// Counters returns the port's counters.
func (p *Port) Counters() (Counters, error) {
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	if p.lan.closed {
		return Counters{}, fmt.Errorf("read counters of port %s: %w", p.name, os.ErrClosed)
	}
	link, err := p.lan.handle.LinkByName(p.name)
	if err != nil {
		return Counters{}, fmt.Errorf("read counters of port %s: %w", p.name, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		s = &netlink.LinkStatistics{}
	}
	// The kernel counts from its own side: what the machine sends is what the tap receives.
	return Counters{
		Sent: s.RxPackets, SentBytes: s.RxBytes,
		Received: s.TxPackets, ReceivedBytes: s.TxBytes,
		Lost: s.RxDropped + s.TxDropped,
	}, nil
}

// virtioHeader is the length of the virtio_net_hdr in front of a frame, without mergeable buffers.
const virtioHeader = 10

// attach attaches to the port's tap and makes it when it is missing.
//
// The descriptor becomes an *os.File only afterwards: the runtime's poller, which takes up every file that os.OpenFile opens, sees a tun
// device that is not attached yet as broken.
func (p *Port) attach() (int, error) {
	fd, err := openTun(p.lan.cfg.Tun)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(p.name)
	if err == nil {
		flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if !p.bare {
			flags |= unix.IFF_VNET_HDR
		}
		ifr.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return -1, fmt.Errorf("attach to tap %s: %w", p.name, errors.Join(err, unix.Close(fd)))
	}
	return fd, nil
}

// checkName refuses what the kernel would refuse, or would take for a pattern ("tap%d").
func checkName(name string) error {
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%q is no link name", name)
	}
	if len(name) >= unix.IFNAMSIZ {
		return fmt.Errorf("the name %q is too long for a link: %d bytes, at most %d", name, len(name), unix.IFNAMSIZ-1)
	}
	bad := strings.TrimFunc(name, func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	})
	if bad != "" {
		return fmt.Errorf("%q is no link name: only letters, digits, \".\", \"_\" and \"-\"", name)
	}
	return nil
}
