package agent

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unsafe"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/session"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// minEntropy is what the kernel's generator is seeded with anew, in bytes: the
// size of its key.
const minEntropy = 32

// configure gives this machine its identity: entropy before anything that could
// draw random bytes, the clock before anything that writes a file, the network
// last, so that no other machine hears of a half-made one.
func configure(c agentapi.Configure) error {
	if err := addEntropy(c.Entropy); err != nil {
		return err
	}
	ts := unix.NsecToTimespec(c.Clock.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the wall clock: %w", err)
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	d, pairings, err := identity(c)
	if err != nil {
		return err
	}
	if err := device.Save(device.DefaultDir, d, pairings); err != nil {
		return err
	}
	return configureNetwork(c)
}

func identity(c agentapi.Configure) (device.Device, []device.Pairing, error) {
	if len(c.PrivateKey) != session.KeySize {
		return device.Device{}, nil, fmt.Errorf("configure %s: private key of %d bytes, want %d", c.DeviceID, len(c.PrivateKey), session.KeySize)
	}
	key, err := session.NewKeyPair([session.KeySize]byte(c.PrivateKey))
	if err != nil {
		return device.Device{}, nil, fmt.Errorf("configure %s: %w", c.DeviceID, err)
	}
	d := device.Device{ID: c.DeviceID, Key: key}
	var pairings []device.Pairing
	for _, p := range c.Pairings {
		if len(p.PublicKey) != session.KeySize {
			return d, nil, fmt.Errorf("configure %s: public key of %s has %d bytes, want %d", c.DeviceID, p.DeviceID, len(p.PublicKey), session.KeySize)
		}
		pairings = append(pairings, device.Pairing{ID: p.DeviceID, Key: [session.KeySize]byte(p.PublicKey), Services: p.Services})
	}
	return d, pairings, nil
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

func configureNetwork(c agentapi.Configure) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("configure lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	link, err := netlink.LinkByName(c.Interface)
	if err != nil {
		return fmt.Errorf("configure %s: %w (is the virtio_net module loaded?)", c.Interface, err)
	}
	mac, err := net.ParseMAC(c.MAC)
	if err != nil {
		return fmt.Errorf("configure %s: %w", c.Interface, err)
	}
	addr, err := netlink.ParseAddr(c.Address)
	if err != nil {
		return fmt.Errorf("configure %s: address %q: %w", c.Interface, c.Address, err)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("set %s down: %w", c.Interface, err)
	}
	if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
		return fmt.Errorf("set the MAC of %s to %s: %w", c.Interface, mac, err)
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", c.Address, c.Interface, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", c.Interface, err)
	}
	// Announces go to a multicast group, which no address of the interface
	// implies a route for.
	multicast := &net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}
	err = netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: multicast, Scope: netlink.SCOPE_LINK})
	if err != nil {
		return fmt.Errorf("route multicast through %s: %w", c.Interface, err)
	}
	return nil
}

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
