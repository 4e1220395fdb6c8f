package decode

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/session"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The ports of the contract (sections 1 and 2). Sessions are also looked for at ports that were announced.
const (
	announcePort = 37020
	sessionPort  = 34567
)

// A decoder turns the frames of one capture into packets.
type decoder struct {
	ours    bool // interfaces are nodes
	packets []Packet
	frames  int
	counts  map[[2]string]*Count
	byMAC   map[[6]byte]string            // nodes by the addresses they have used; the first one keeps it
	ports   map[uint16]bool               // of sessions
	devices map[[nxsb.KeySize]byte]string // that were announced, by their key
	syns    map[synID]bool
	streams *streams

	now Packet // the frame that is looked at, as packets begin
}

// synID is what a repeated SYN has in common with the first.
type synID struct {
	from, to netip.AddrPort
	seq      uint32
}

// maxDevices bounds the keys that are tried for a session: many more than there are nodes.
const maxDevices = 256

func newDecoder(keys []session.Keys) *decoder {
	d := &decoder{
		counts: map[[2]string]*Count{}, byMAC: map[[6]byte]string{}, ports: map[uint16]bool{sessionPort: true},
		devices: map[[nxsb.KeySize]byte]string{}, syns: map[synID]bool{},
	}
	d.streams = newStreams(d, keys)
	return d
}

// emit adds a packet to what was found.
func (d *decoder) emit(p Packet) {
	d.packets = append(d.packets, p)
	if p.Kind == Note {
		return
	}
	n := d.count(p.From, p.To)
	if at := n.field(p.Kind); at != nil {
		*at++
	}
	if p.Malformed != "" {
		n.Malformed++
	}
}

func (d *decoder) count(from, to string) *Count {
	n := d.counts[[2]string{from, to}]
	if n == nil {
		n = &Count{From: from, To: to}
		d.counts[[2]string{from, to}] = n
	}
	return n
}

// tell adds a packet of the frame that is looked at.
func (d *decoder) tell(kind Kind, text string, size int, err error) {
	p := d.now
	p.Kind, p.Text, p.Size = kind, text, size
	if err != nil {
		p.Malformed = err.Error()
	}
	d.emit(p)
}

// frame looks at a frame, and at what is said of it.
func (d *decoder) frame(name string, info gopacket.CaptureInfo, data []byte, comments []string) {
	d.frames++
	for _, text := range comments {
		d.emit(Packet{Frame: d.frames, Time: info.Timestamp, Kind: Note, Text: printable(text)})
	}
	d.now = Packet{Frame: d.frames, Time: info.Timestamp, From: name}
	if len(data) == 0 {
		return // it is there for its comments
	}
	var eth layers.Ethernet
	if err := eth.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		d.tell(Frame, fmt.Sprintf("frame of %d bytes", len(data)), len(data), err)
		return
	}
	d.names(name, &eth)
	n := d.count(d.now.From, d.now.To)
	n.Frames++
	n.Bytes += info.Length
	switch eth.EthernetType {
	case layers.EthernetTypeARP:
		d.arp(eth.Payload)
	case layers.EthernetTypeIPv4:
		d.ipv4(info, eth.Payload)
	}
}

// names finds out between whom a frame went.
func (d *decoder) names(name string, eth *layers.Ethernet) {
	if len(eth.SrcMAC) != 6 || len(eth.DstMAC) != 6 {
		return
	}
	src, dst := [6]byte(eth.SrcMAC), [6]byte(eth.DstMAC)
	if !d.ours {
		d.now.From = eth.SrcMAC.String()
	} else if _, known := d.byMAC[src]; !known {
		d.byMAC[src] = name
	}
	switch to, known := d.byMAC[dst]; {
	case dst[0]&1 != 0:
		d.now.To = All
	case known:
		d.now.To = to
	default:
		d.now.To = eth.DstMAC.String()
	}
}

func (d *decoder) arp(data []byte) {
	var a layers.ARP
	if err := a.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		d.tell(ARP, "arp", len(data), err)
		return
	}
	sender, target := net.IP(a.SourceProtAddress), net.IP(a.DstProtAddress)
	text := fmt.Sprintf("arp operation %d", a.Operation)
	switch a.Operation {
	case layers.ARPRequest:
		text = fmt.Sprintf("who has %s? tell %s", target, sender)
		if sender.Equal(target) {
			text = fmt.Sprintf("%s is at %s (said to all)", sender, net.HardwareAddr(a.SourceHwAddress))
		}
	case layers.ARPReply:
		text = fmt.Sprintf("%s is at %s", sender, net.HardwareAddr(a.SourceHwAddress))
	}
	d.tell(ARP, text, len(data), nil)
}

func (d *decoder) ipv4(info gopacket.CaptureInfo, data []byte) {
	var ip layers.IPv4
	if err := ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		d.tell(Frame, "IPv4", len(data), err)
		return
	}
	if ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 {
		d.tell(Frame, fmt.Sprintf("fragment of %s at %d", ip.Protocol, int(ip.FragOffset)*8), len(ip.Payload), nil)
		return
	}
	if !d.ours { // addresses read better than those of cards
		d.now.From = ip.SrcIP.String()
		if d.now.To != All {
			d.now.To = ip.DstIP.String()
		}
	}
	switch ip.Protocol {
	case layers.IPProtocolUDP:
		d.udp(&ip)
	case layers.IPProtocolTCP:
		d.tcp(info, &ip)
	}
}

func (d *decoder) udp(ip *layers.IPv4) {
	var u layers.UDP
	if err := u.DecodeFromBytes(ip.Payload, gopacket.NilDecodeFeedback); err != nil {
		d.tell(Frame, "UDP", len(ip.Payload), err)
		return
	}
	// A daemon can be told to announce itself at another port.
	if u.DstPort != announcePort && !bytes.HasPrefix(u.Payload, []byte("NXSB")) {
		d.tell(UDP, fmt.Sprintf("udp %d -> %d, %d bytes", u.SrcPort, u.DstPort, len(u.Payload)), len(u.Payload), nil)
		return
	}
	a, err := nxsb.Parse(u.Payload)
	if err != nil {
		d.tell(Announce, "announce", len(u.Payload), err)
		return
	}
	if len(d.devices) < maxDevices {
		d.devices[a.Key] = a.DeviceID
		if a.Port != 0 {
			d.ports[a.Port] = true
		}
	}
	d.tell(Announce, announceText(a), len(u.Payload), nil)
}

func (d *decoder) tcp(info gopacket.CaptureInfo, ip *layers.IPv4) {
	var t layers.TCP
	if err := t.DecodeFromBytes(ip.Payload, gopacket.NilDecodeFeedback); err != nil {
		d.tell(Frame, "TCP", len(ip.Payload), err)
		return
	}
	from, to := address(ip.SrcIP, uint16(t.SrcPort)), address(ip.DstIP, uint16(t.DstPort))
	ports := fmt.Sprintf("%d -> %d", from.Port(), to.Port())
	again := ""
	if t.SYN {
		id := synID{from, to, t.Seq}
		if d.syns[id] {
			again = ", again"
		}
		d.syns[id] = true
	}
	switch {
	case t.SYN && t.ACK:
		d.tell(SYNACK, "SYN-ACK "+ports+again, len(t.Payload), nil)
	case t.SYN:
		d.tell(SYN, "SYN "+ports+again, len(t.Payload), nil)
	case t.RST:
		defer d.tell(RST, "RST "+ports, len(t.Payload), nil)
	case t.FIN:
		defer d.tell(FIN, "FIN "+ports, len(t.Payload), nil)
	}
	if d.ports[from.Port()] || d.ports[to.Port()] {
		d.streams.segment(info, ip, &t, from, to)
	}
}

func address(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
