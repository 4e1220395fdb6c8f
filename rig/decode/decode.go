// Package decode reads captures as people read them: who sent what to whom, when. Frames become packets with a kind and a line of text: ARP,
// announces, TCP's beginnings and ends, handshake messages and records by their length, and, with a session's keys, requests and answers.
//
// It knows the wire formats through packages protocol/... and nothing else of the product; what those refuse it shows with their own error. It
// sends nothing, and changes no capture.
package decode

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"dsoftbus-rig/protocol/session"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// A Kind is what a Packet is.
type Kind string

const (
	Note      Kind = "note"      // a packet comment: what the scenario did; it is from and to nobody
	ARP       Kind = "arp"       // a question or an answer
	Announce  Kind = "announce"  // an NXSB datagram
	UDP       Kind = "udp"       // any other datagram
	SYN       Kind = "syn"       // TCP: somebody connects
	SYNACK    Kind = "syn-ack"   // TCP: and is heard
	FIN       Kind = "fin"       // TCP: one direction ends
	RST       Kind = "rst"       // TCP: a connection is refused or cut
	Handshake Kind = "handshake" // a message of a session's handshake
	Record    Kind = "record"    // a record of a session
	Gap       Kind = "gap"       // part of a stream is missing in the capture, or cannot be told apart
	Frame     Kind = "frame"     // a frame whose IP, UDP or TCP header is malformed
)

// A Packet is one thing that was sent. A record that takes several frames is one packet, and several records of one frame are as many.
type Packet struct {
	Frame     int       `json:"frame"`               // number in the file, from 1, of the frame with which it was whole
	Time      time.Time `json:"time"`                // of that frame, by the host's clock
	From      string    `json:"from,omitempty"`      // who sent it: "A", "rig"; in a capture of somebody else's an address
	To        string    `json:"to,omitempty"`        // whom it was for: "B", "rig", All, or an address that nobody has used
	Kind      Kind      `json:"kind"`                //
	Text      string    `json:"text"`                // one line; text from the wire is quoted where it is not printable
	Malformed string    `json:"malformed,omitempty"` // what is wrong with it, in the words of its decoder
	Size      int       `json:"size,omitempty"`      // bytes: of the datagram's payload, the message, the record (with its length)
}

// All is Packet.To of what is for everybody.
const All = "all"

// A Count is what went from one to the other.
type Count struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Frames     int    `json:"frames"` // all of them, also those that are no packet
	Bytes      int    `json:"bytes"`
	ARP        int    `json:"arp,omitempty"`
	Announces  int    `json:"announces,omitempty"`
	SYN        int    `json:"syn,omitempty"`
	SYNACK     int    `json:"syn_ack,omitempty"`
	FIN        int    `json:"fin,omitempty"`
	RST        int    `json:"rst,omitempty"`
	Handshakes int    `json:"handshakes,omitempty"` // messages
	Records    int    `json:"records,omitempty"`
	Malformed  int    `json:"malformed,omitempty"` // packets with an error; they are also counted by their kind
}

// A Capture is what a file holds.
type Capture struct {
	Packets []Packet `json:"packets"` // by frame
	Counts  []Count  `json:"counts"`  // by From, then To
	Frames  int      `json:"frames"`
	// Cut says why the file's end could not be read: whoever wrote it was killed, or still writes. Empty: it was whole.
	Cut string `json:"cut,omitempty"`
}

// Count returns what went from one to the other; From or To "" is any.
func (c *Capture) Count(from, to string) Count {
	sum := Count{From: from, To: to}
	for _, n := range c.Counts {
		if (from == "" || n.From == from) && (to == "" || n.To == to) {
			sum.add(n)
		}
	}
	return sum
}

func (c *Count) add(n Count) {
	c.Frames += n.Frames
	c.Bytes += n.Bytes
	c.ARP += n.ARP
	c.Announces += n.Announces
	c.SYN += n.SYN
	c.SYNACK += n.SYNACK
	c.FIN += n.FIN
	c.RST += n.RST
	c.Handshakes += n.Handshakes
	c.Records += n.Records
	c.Malformed += n.Malformed
}

// field is where packets of a kind are counted, nil for a kind that is not.
func (c *Count) field(k Kind) *int {
	switch k {
	case ARP:
		return &c.ARP
	case Announce:
		return &c.Announces
	case SYN:
		return &c.SYN
	case SYNACK:
		return &c.SYNACK
	case FIN:
		return &c.FIN
	case RST:
		return &c.RST
	case Handshake:
		return &c.Handshakes
	case Record:
		return &c.Records
	}
	return nil
}

// Application is what the section of a capture names that the rig has made: its interfaces are nodes, and each frame is on that of its sender.
const Application = "dsoftbus-rig"

// File decodes a pcapng file. Sessions whose keys are given are opened.
func File(path string, keys []session.Keys) (*Capture, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := Read(f, keys)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return c, nil
}

// Read decodes a pcapng file of Ethernet frames. What is malformed in frames is in the packets; its error is of a file that is none. A file that ends in
// the middle gives what was read until then.
func Read(r io.Reader, keys []session.Keys) (*Capture, error) {
	file, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		return nil, fmt.Errorf("not a pcapng file: %w", err)
	}
	d := newDecoder(keys)
	d.ours = file.SectionInfo().Application == Application
	cut := ""
	for {
		data, info, options, err := file.ReadPacketDataWithOptions()
		if err != nil {
			if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				cut = err.Error()
			}
			break
		}
		name := ""
		if i, err := file.Interface(info.InterfaceIndex); err == nil {
			name = i.Name
			if i.LinkType != layers.LinkTypeEthernet {
				return nil, fmt.Errorf("interface %q has no Ethernet frames, but %s", name, i.LinkType)
			}
		}
		d.frame(name, info, data, options.Comments)
	}
	d.streams.end()
	out := &Capture{Packets: d.packets, Frames: d.frames, Cut: cut}
	slices.SortStableFunc(out.Packets, func(a, b Packet) int { return cmp.Compare(a.Frame, b.Frame) })
	for _, n := range d.counts {
		out.Counts = append(out.Counts, *n)
	}
	slices.SortFunc(out.Counts, func(a, b Count) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return out, nil
}
