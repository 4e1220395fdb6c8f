package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
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
	there bool // false in a machine without one
	index int
	mac   net.HardwareAddr
	// For its calls, and rtnetlink. They stay open: no clone has to make or end them.
	socket, routes int
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
	routes, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return card{}, fmt.Errorf("set up %s: %w", interfaceName, err)
	}
	return card{there: true, index: link.Attrs().Index, mac: link.Attrs().HardwareAddr, socket: socket, routes: routes}, nil
}

// address gives the card its addresses. The driver changes a MAC while the card is
// up; taking it down and up would cost an emulated machine tens of milliseconds.
//
// These are the shortest ways there are, an old call (netdevice(7)) and one message
// (rtnetlink(7)): a clone does all of this for the first time.
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
	if err := c.addAddress(id.Address); err != nil {
		return fmt.Errorf("add address %s to %s: %w", id.Address, interfaceName, err)
	}
	return nil
}

// addAddress adds or replaces an address, with the broadcast address of its network.
func (c card) addAddress(p netip.Prefix) error {
	ip := p.Addr().As4()
	broadcast := ip
	for bit := p.Bits(); bit < 32; bit++ {
		broadcast[bit/8] |= 0x80 >> (bit % 8)
	}
	m := binary.NativeEndian.AppendUint32(nil, 0) // the length, known below
	m = binary.NativeEndian.AppendUint16(m, unix.RTM_NEWADDR)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m = append(m, make([]byte, 8)...) // sequence number and sender: there is one question, and one who asks
	m = append(m, unix.AF_INET, byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	m = binary.NativeEndian.AppendUint32(m, uint32(c.index))
	for _, a := range []struct {
		kind uint16
		ip   [4]byte
	}{{unix.IFA_LOCAL, ip}, {unix.IFA_ADDRESS, ip}, {unix.IFA_BROADCAST, broadcast}} {
		m = binary.NativeEndian.AppendUint16(m, unix.SizeofRtAttr+4)
		m = binary.NativeEndian.AppendUint16(m, a.kind)
		m = append(m, a.ip[:]...)
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	if _, err := unix.Write(c.routes, m); err != nil {
		return err
	}
	var answer [512]byte
	n, err := unix.Read(c.routes, answer[:])
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("the kernel answers with %d bytes that are no acknowledgement", n)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
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

// configurer returns what gives this machine its identity: entropy before anything
// that could draw random bytes, the clock before anything that writes a file, the
// network last, so that no other machine hears of a half-made one.
func configurer(entropy entropySink, network card) func(agentapi.Identity) error {
	return func(id agentapi.Identity) error {
		if err := entropy.add(id.Entropy); err != nil {
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
		return network.address(id)
	}
}

// place makes a file and the folders above it. Nothing that could read it runs yet.
// These are plain system calls, since an os.File costs a clone, which does everything
// for the first time, more than they do.
func place(f agentapi.File) error {
	if !filepath.IsAbs(f.Path) {
		return fmt.Errorf("place %q: no absolute path", f.Path)
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC | unix.O_CLOEXEC
	mode := uint32(f.Mode.Perm())
	fd, err := unix.Open(f.Path, flags, mode)
	if err == unix.ENOENT {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("place %s: %w", f.Path, err)
		}
		fd, err = unix.Open(f.Path, flags, mode)
	}
	if err != nil {
		return fmt.Errorf("place %s: %w", f.Path, err)
	}
	for rest := f.Content; len(rest) > 0 && err == nil; {
		var n int
		if n, err = unix.Write(fd, rest); err == unix.EINTR {
			err = nil
		}
		rest = rest[max(n, 0):]
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("place %s: %w", f.Path, err)
	}
	return nil
}

// An entropySink is the kernel's random generator (random(4)). It is opened before a
// machine is saved.
type entropySink struct{ fd int }

func openEntropySink() (entropySink, error) {
	fd, err := unix.Open("/dev/urandom", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return entropySink{}, fmt.Errorf("open the random generator: %w", err)
	}
	return entropySink{fd}, nil
}

// add credits seed to the generator and makes it start anew from it: machines
// restored from one save would otherwise draw the same bytes.
func (e entropySink) add(seed []byte) error {
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
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return fmt.Errorf("seed the random generator: RNDADDENTROPY: %w", errno)
	}
	if err := unix.IoctlSetInt(e.fd, rndReseedCRNG, 0); err != nil {
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
