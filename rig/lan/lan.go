// Package lan owns the network between the machines of one scenario: a bridge, one tap device per machine, and the rig's own place on it
// as a third party that can connect and send.
//
// It works on the network namespace its process is in, which must be a fresh one (New refuses any other), and never enters, makes or names
// another: whoever starts the process decides that. Root in a user namespace of its own is enough. It never decodes what crosses the bridge
// and never starts a machine.
package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Config says what the network is to be. The zero value is complete: every field has a default.
type Config struct {
	Bridge string           // name of the bridge; "br0"
	Prefix netip.Prefix     // the rig's address on the bridge and the size of the network (IPv4); 10.42.0.1/24
	MAC    net.HardwareAddr // of the bridge; DefaultMAC
	MTU    int              // bytes, of the bridge and every port; 1500
	Tun    string           // the tun device; "/dev/net/tun"
	Bare   bool             // frames of ports have no virtio_net_hdr in front, and so no offloads: what recorded machines take

	// Idle is how long TCP waits for the next byte of an answer, and for the peer to take what is sent; 3 s.
	Idle time.Duration

	// Note, when not nil, gets one line for each thing that is worth recording and no error: a connection that the peer
	// reset, an answer that was cut short. It is called on the goroutine of the caller of TCP.
	Note func(line string)
}

// Defaults of Config.
const (
	DefaultBridge = "br0"
	DefaultTun    = "/dev/net/tun"
	DefaultMTU    = 1500
	DefaultIdle   = 3 * time.Second
)

// DefaultPrefix is the rig's address and network, in which the machines have theirs.
var DefaultPrefix = netip.MustParsePrefix("10.42.0.1/24")

// DefaultMAC is the bridge's address: locally administered, followed by 10.42.0.1. It is fixed because a bridge otherwise takes the
// lowest address of its ports, so that it changes, and the machines' neighbour tables go stale, with every port that is added.
var DefaultMAC = net.HardwareAddr{0x02, 0x00, 10, 42, 0, 1}

func (c Config) withDefaults() (Config, error) {
	if c.Bridge == "" {
		c.Bridge = DefaultBridge
	}
	if !c.Prefix.IsValid() {
		c.Prefix = DefaultPrefix
	}
	if c.MAC == nil {
		c.MAC = DefaultMAC
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.Tun == "" {
		c.Tun = DefaultTun
	}
	if c.Idle == 0 {
		c.Idle = DefaultIdle
	}
	if c.Note == nil {
		c.Note = func(string) {}
	}
	if err := checkName(c.Bridge); err != nil {
		return Config{}, fmt.Errorf("bridge: %w", err)
	}
	if !c.Prefix.Addr().Is4() {
		return Config{}, fmt.Errorf("address %s of the bridge is not IPv4", c.Prefix)
	}
	return c, nil
}

// A LAN is a bridge with its ports. Its methods may be called concurrently.
type LAN struct {
	cfg    Config
	handle *netlink.Handle
	bridge netlink.Link

	mu       sync.Mutex
	ports    map[string]*Port
	filters  map[filterKey]*filter // in force; nil until there was one
	impaired map[string]*impairing // by port
	made     int                   // filters and impairments, ever: what is made gets a number of its own
	teardown []func() error        // what undoes what was made, in the order of making
	closed   bool
}

// New makes the network in the current network namespace. What this host does not allow or lacks is a *HostError, with the next step. When it
// fails nothing stays behind.
func New(ctx context.Context, cfg Config) (*LAN, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("make network: %w", context.Cause(ctx))
	}
	if err := CheckTun(cfg.Tun); err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	if err := CheckCapability(); err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("make network: open netlink socket: %w", err)
	}
	l := &LAN{cfg: cfg, handle: handle, ports: make(map[string]*Port)}
	l.teardown = append(l.teardown, func() error { handle.Close(); return nil })
	if err := l.build(); err != nil {
		err = fmt.Errorf("make network: %w", explainNetlink(err))
		if cerr := l.Close(); cerr != nil {
			err = multierror.Append(err, cerr)
		}
		return nil, err
	}
	return l, nil
}

func (l *LAN) build() error {
	if err := l.requireFresh(); err != nil {
		return err
	}
	if err := l.loopback(); err != nil {
		return err
	}
	return l.addBridge()
}

// requireFresh refuses a namespace that somebody uses: making a bridge in the host's own network, say, would be a surprise.
func (l *LAN) requireFresh() error {
	links, err := l.handle.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		a := link.Attrs()
		if a.Flags&net.FlagLoopback != 0 {
			continue
		}
		if a.Flags&net.FlagUp != 0 || a.Name == l.cfg.Bridge {
			return &HostError{
				Problem: fmt.Sprintf("this network namespace is in use: it has the link %s", a.Name),
				Next:    "the network is only made in a fresh namespace: start scenarios through `rig run`",
			}
		}
	}
	return nil
}

func (l *LAN) loopback() error {
	lo, err := l.handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := l.handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	l.undo("set lo down", func() error { return l.handle.LinkSetDown(lo) })
	return nil
}

func (l *LAN) addBridge() error {
	name := l.cfg.Bridge
	// Snooping off: groups are flooded to every port, so that no machine depends on IGMP reports or a querier.
	snooping := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, l.cfg.MTU, l.cfg.MAC
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := l.handle.LinkAdd(bridge); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return &HostError{Problem: "this kernel has no bridge", Next: "load it: `modprobe bridge`", Err: err}
		}
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	l.undo("delete bridge "+name, func() error { return l.handle.LinkDel(bridge) })
	l.bridge = bridge
	if err := setForwardDelay(bridge.Index); err != nil {
		return fmt.Errorf("set forward delay of %s: %w", name, err)
	}
	if err := l.noAutoconf(bridge); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   l.cfg.Prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(l.cfg.Prefix.Bits(), 32),
	}}
	if err := l.handle.AddrAdd(bridge, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, l.cfg.Prefix, err)
	}
	if err := l.handle.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// setForwardDelay sets the two attributes that package netlink has no field for. STP off and no delay: a port forwards as soon as it has a
// carrier, not 15 s or 30 s later.
func setForwardDelay(index int) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// noAutoconf keeps the host's side of a link out of IPv6: without a link-local address the kernel sends no router solicitations and no
// reports of its own into the network. A kernel without IPv6 has nothing to turn off.
func (l *LAN) noAutoconf(link netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
	err := l.handle.LinkSetIP6AddrGenMode(link, none)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("turn off IPv6 autoconfiguration of %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// undo adds to the teardown.
func (l *LAN) undo(what string, f func() error) {
	l.teardown = append(l.teardown, func() error {
		if err := f(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// Addr returns the rig's own address on the network.
func (l *LAN) Addr() netip.Addr { return l.cfg.Prefix.Addr() }

// Prefix returns the network, as the rig's address and its length.
func (l *LAN) Prefix() netip.Prefix { return l.cfg.Prefix }

// BridgeIndex returns the index of the bridge's link, at which the rig's own frames enter the network.
func (l *LAN) BridgeIndex() int { return l.bridge.Attrs().Index }

// Close takes away everything New and AddPort made, last made first, all of it: its error joins what could not be taken away. Machines that
// still run lose their network. Closing again does nothing.
func (l *LAN) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs *multierror.Error
	for _, f := range slices.Backward(l.teardown) {
		errs = multierror.Append(errs, f())
	}
	l.teardown, l.ports = nil, nil
	return errs.ErrorOrNil()
}
