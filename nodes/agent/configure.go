package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"dsoftbus-rig/nodes/agentapi"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// minEntropy is what the kernel's generator is seeded with anew, in bytes: the
// size of its key.
const minEntropy = 32

// A card is the machine's only network card. It is up before the machine has an
// identity, so that what is left to do then is little; without an address it sends
// nothing.
type card struct {
	there  bool // false in a machine without one
	mac    net.HardwareAddr
	socket int // for its calls; it stays open: no clone has to make or end it
}

// interfaceName is what Linux calls a machine's first network card.
const interfaceName = "eth0"

// openCard sets the network up as far as it is the same in every machine.
func openCard() (card, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return card{}, fmt.Errorf("set up the network: %w", err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return card{}, fmt.Errorf("set up lo: %w", err)
	}
	if err := handle.LinkSetUp(lo); err != nil {
		return card{}, fmt.Errorf("set lo up: %w", err)
	}
	link, err := handle.LinkByName(interfaceName)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return card{}, nil
	}
	if err != nil {
		return card{}, fmt.Errorf("set up %s: %w", interfaceName, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		return card{}, fmt.Errorf("set %s up: %w", interfaceName, err)
	}
	// Announces go to a multicast group, which no address of the interface
	// implies a route for.
	multicast := &net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}
	err = handle.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: multicast, Scope: netlink.SCOPE_LINK})
	if err != nil {
		return card{}, fmt.Errorf("route multicast through %s: %w", interfaceName, err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return card{}, fmt.Errorf("set up %s: %w", interfaceName, err)
	}
	return card{true, link.Attrs().HardwareAddr, socket}, nil
}

// address gives the card its addresses. The driver changes a MAC while the card is
// up; taking it down and up would cost an emulated machine tens of milliseconds.
//
// These are the old calls (netdevice(7)): rtnetlink's messages cost a clone, which
// has everything to do for the first time, three times as much.
func (c card) address(id agentapi.Identity) error {
	if !c.there {
		return fmt.Errorf("configure %s: there is none (is the virtio_net module loaded?)", interfaceName)
	}
	if !id.Address.Addr().Is4() {
		return fmt.Errorf("configure %s: %v is no IPv4 address", interfaceName, id.Address)
	}
	if err := c.setMAC(id.MAC); err != nil {
		return fmt.Errorf("set the MAC of %s to %s: %w", interfaceName, id.MAC, err)
	}
	mask := netip.AddrFrom4([4]byte(net.CIDRMask(id.Address.Bits(), 32)))
	for _, a := range []struct {
		call int
		addr netip.Addr
	}{{unix.SIOCSIFADDR, id.Address.Addr()}, {unix.SIOCSIFNETMASK, mask}} {
		request, err := unix.NewIfreq(interfaceName)
		if err == nil {
			ip := a.addr.As4()
			err = request.SetInet4Addr(ip[:])
		}
		if err == nil {
			err = unix.IoctlIfreq(c.socket, uint(a.call), request)
		}
		if err != nil {
			return fmt.Errorf("add address %s to %s: %w", id.Address, interfaceName, err)
		}
	}
	return nil
}

// setMAC changes the card's hardware address.
func (c card) setMAC(mac net.HardwareAddr) error {
	request := struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		mac    [14]byte
		_      [8]byte // of a union with larger members
	}{family: unix.ARPHRD_ETHER}
	copy(request.name[:], interfaceName)
	copy(request.mac[:], mac)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.socket), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

// rehearse does what configure will, to no effect: the card gets the MAC it has.
func (c card) rehearse(agentapi.Identity) error {
	if !c.there {
		return nil
	}
	if err := c.setMAC(c.mac); err != nil {
		return fmt.Errorf("set the MAC of %s to %s: %w", interfaceName, c.mac, err)
	}
	return nil
}

// configure gives this machine its identity: entropy before anything that could
// draw random bytes, the clock before anything that writes a file, the network
// last, so that no other machine hears of a half-made one.
func (c card) configure(id agentapi.Identity) error {
	if err := addEntropy(id.Entropy); err != nil {
		return err
	}
	ts := unix.NsecToTimespec(id.Clock.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the wall clock: %w", err)
	}
	if err := unix.Sethostname([]byte(id.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	for _, f := range id.Files {
		if err := place(f); err != nil {
			return err
		}
	}
	return c.address(id)
}

// place makes a file and the folders above it. Nothing that could read it runs yet.
func place(f agentapi.File) error {
	if !filepath.IsAbs(f.Path) {
		return fmt.Errorf("place %q: no absolute path", f.Path)
	}
	err := os.WriteFile(f.Path, f.Content, f.Mode.Perm())
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(f.Path), 0o755); err == nil {
			err = os.WriteFile(f.Path, f.Content, f.Mode.Perm())
		}
	}
	if err != nil {
		return fmt.Errorf("place %s: %w", f.Path, err)
	}
	return nil
}

// addEntropy credits seed to the kernel's random generator and makes it start
// anew from it (random(4)): machines restored from one save would otherwise draw
// the same bytes.
func addEntropy(seed []byte) error {
	if len(seed) < minEntropy {
		return fmt.Errorf("seed the random generator: %d bytes given, want at least %d", len(seed), minEntropy)
	}
	const maxSeed = 512
	info := struct {
		bits, bytes int32
		buf         [maxSeed]byte
	}{}
	n := copy(info.buf[:], seed)
	info.bits, info.bytes = int32(n)*8, int32(n)
	fd, err := unix.Open("/dev/urandom", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("seed the random generator: %w", err)
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return fmt.Errorf("seed the random generator: RNDADDENTROPY: %w", errno)
	}
	if err := unix.IoctlSetInt(fd, rndReseedCRNG, 0); err != nil {
		return fmt.Errorf("seed the random generator: RNDRESEEDCRNG: %w", err)
	}
	return nil
}

// rndReseedCRNG is _IO('R', 7) of linux/random.h, which x/sys does not name.
const rndReseedCRNG = 0x5207

// parseSignal reads a signal as people write it: "SIGTERM", "TERM" or "15".
func parseSignal(s string) (unix.Signal, error) {
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return unix.Signal(n), nil
	}
	return 0, errors.New("unknown signal " + s + " (say SIGTERM, TERM or 15)")
}
