package agentapi

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// A machine that is recorded has no virtio-serial ports: the host's end of one is no part of what QEMU records. Its agent is reached by TCP over a network card
// of its own, which is recorded, and writes its journal to package debugcon's device.
const (
	// ControlParameter on the kernel's command line, followed by a ControlAddress, says so.
	ControlParameter = "rig.control="
	// ListeningLine, in the journal, says that the rig can connect.
	ListeningLine = "listening to the rig"
	// controlPort is the agent's, in a network namespace of its own.
	controlPort = 7
)

// A ControlAddress says where the agent listens.
type ControlAddress struct {
	MAC     net.HardwareAddr // of the card
	Address netip.Prefix     // IPv4, of the card
}

// Endpoint is where to connect to.
func (a ControlAddress) Endpoint() netip.AddrPort {
	return netip.AddrPortFrom(a.Address.Addr(), controlPort)
}

// String is the address's form: "52:54:00:01:00:0a,10.43.0.2/30".
func (a ControlAddress) String() string { return a.MAC.String() + "," + a.Address.String() }

// ParseControlAddress reads what String writes.
func ParseControlAddress(s string) (a ControlAddress, err error) {
	mac, address, ok := strings.Cut(s, ",")
	if !ok {
		return a, fmt.Errorf("%q is not a MAC and an address, as in 52:54:00:01:00:0a,10.43.0.2/30", s)
	}
	if a.MAC, err = net.ParseMAC(mac); err != nil {
		return a, err
	}
	if a.Address, err = netip.ParsePrefix(address); err != nil {
		return a, err
	}
	if !a.Address.Addr().Is4() {
		return a, fmt.Errorf("%s is no IPv4 address", address)
	}
	return a, nil
}
