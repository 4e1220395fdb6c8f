package decode

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"dsoftbus-rig/protocol/session"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"
)

// streams puts the TCP streams of sessions together.
type streams struct {
	d    *decoder
	keys map[[session.HashSize]byte]session.Keys
	pool *reassembly.Assembler
	// A machine that was started again connects from a port that it has used before. The library would take that for the old connection, so each
	// has a number of its own.
	numbers map[[2]netip.AddrPort]*numbered
	made    uint32
}

type numbered struct {
	number uint32
	syn    uint32 // sequence number of the SYN that began it
}

// maxPages bounds the segments that wait for one that is missing, of one connection; a page has 1,900 bytes.
const maxPages = 8192

func newStreams(d *decoder, keys []session.Keys) *streams {
	s := &streams{d: d, keys: map[[session.HashSize]byte]session.Keys{}, numbers: map[[2]netip.AddrPort]*numbered{}}
	for _, k := range keys {
		s.keys[k.Hash] = k
	}
	s.pool = reassembly.NewAssembler(reassembly.NewStreamPool(s))
	s.pool.MaxBufferedPagesPerConnection = maxPages
	return s
}

// segment takes in a segment.
func (s *streams) segment(info gopacket.CaptureInfo, ip *layers.IPv4, t *layers.TCP, from, to netip.AddrPort) {
	ends := [2]netip.AddrPort{from, to}
	if from.Compare(to) > 0 {
		ends = [2]netip.AddrPort{to, from}
	}
	n := s.numbers[ends]
	if begins := t.SYN && !t.ACK; n == nil || begins && n.syn != t.Seq {
		s.made++
		n = &numbered{number: s.made, syn: t.Seq}
		s.numbers[ends] = n
	}
	end := func(ip []byte) []byte { return binary.BigEndian.AppendUint32(append([]byte{}, ip...), n.number) }
	flow := gopacket.NewFlow(layers.EndpointIPv4, end(ip.SrcIP.To4()), end(ip.DstIP.To4()))
	s.pool.AssembleWithContext(flow, t, &segment{info, s.d.now})
}

// end gives what is still waiting for a segment that never came.
func (s *streams) end() { s.pool.FlushAll() }

// A segment is what the library hands on with each one's bytes.
type segment struct {
	info gopacket.CaptureInfo
	as   Packet
}

// GetCaptureInfo implements reassembly.AssemblerContext.
func (s *segment) GetCaptureInfo() gopacket.CaptureInfo { return s.info }

// New implements reassembly.StreamFactory.
func (s *streams) New(_, _ gopacket.Flow, t *layers.TCP, ac reassembly.AssemblerContext) reassembly.Stream {
	c := &conn{s: s, last: ac.(*segment).as}
	// Who connects is who does not use the port of sessions; where both do, who was seen first.
	c.dialled = !s.d.ports[uint16(t.DstPort)] && s.d.ports[uint16(t.SrcPort)]
	first := c.last
	c.names = [2][2]string{{first.From, first.To}, {first.To, first.From}}
	return c
}

// A conn is the connection of one session.
type conn struct {
	s       *streams
	dialled bool         // the first segment seen came from the listener
	names   [2][2]string // sender and receiver of each direction
	halves  [2]half      // by direction: that of the first segment is 0
	last    Packet       // the segment that came last

	messages [3][]byte // of the handshake, as far as it went
	open     bool      // the session's keys are known
}

// A half is one direction of a connection.
type half struct {
	buf      []byte
	messages int // whole ones
	lost     bool
	opener   *session.Opener
	way      way
}

func direction(dir reassembly.TCPFlowDirection) int {
	if dir == reassembly.TCPDirClientToServer {
		return 0
	}
	return 1
}

// Accept implements reassembly.Stream.
func (c *conn) Accept(_ *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection, _ reassembly.Sequence, _ *bool, ac reassembly.AssemblerContext) bool {
	c.last = ac.(*segment).as
	return true
}

// ReassembledSG implements reassembly.Stream.
func (c *conn) ReassembledSG(sg reassembly.ScatterGather, ac reassembly.AssemblerContext) {
	if seg, ok := ac.(*segment); ok {
		c.last = seg.as
	}
	dir, _, _, skipped := sg.Info()
	i := direction(dir)
	h := &c.halves[i]
	n, _ := sg.Lengths()
	switch {
	case h.lost:
		return
	case skipped != 0 && n > 0:
		h.lost, h.buf = true, nil
		text := fmt.Sprintf("%d bytes of the stream are not in the capture", skipped)
		if skipped < 0 {
			text = "the stream's beginning is not in the capture"
		}
		c.tell(i, Gap, text+"; the rest of it cannot be told apart", n, nil)
		return
	}
	h.buf = append(h.buf, sg.Fetch(n)...)
	for c.message(i, h) {
	}
}

// ReassemblyComplete implements reassembly.Stream.
func (c *conn) ReassemblyComplete(reassembly.AssemblerContext) bool {
	for i := range c.halves {
		h := &c.halves[i]
		if len(h.buf) > 0 && !h.lost {
			c.tell(i, c.kind(i, h), fmt.Sprintf("%s, %d bytes of it", c.what(i, h), len(h.buf)), len(h.buf), errCut)
		}
		h.buf = nil
	}
	return true
}

func (c *conn) tell(i int, kind Kind, text string, size int, err error) {
	p := c.last
	p.From, p.To = c.names[i][0], c.names[i][1]
	p.Kind, p.Text, p.Size = kind, text, size
	if err != nil {
		p.Malformed = err.Error()
	}
	c.s.d.emit(p)
}

// ofDialler says whether a direction is the one from who connects.
func (c *conn) ofDialler(i int) bool { return (i == 0) != c.dialled }

// number is that of the handshake message that comes next in a direction, 0 when a record does.
func (c *conn) number(i int, h *half) int {
	switch {
	case c.ofDialler(i) && h.messages == 0:
		return 1
	case c.ofDialler(i) && h.messages == 1:
		return 3
	case !c.ofDialler(i) && h.messages == 0:
		return 2
	}
	return 0
}

func (c *conn) kind(i int, h *half) Kind {
	if c.number(i, h) > 0 {
		return Handshake
	}
	return Record
}

func (c *conn) what(i int, h *half) string {
	if n := c.number(i, h); n > 0 {
		return fmt.Sprintf("handshake %d", n)
	}
	return "record"
}

// message takes one message off a direction's bytes; it says whether there was a whole one.
func (c *conn) message(i int, h *half) bool {
	const header = 2
	if h.lost || len(h.buf) < header {
		return false
	}
	n := int(binary.BigEndian.Uint16(h.buf))
	number := c.number(i, h)
	err := session.CheckRecordLength(n)
	if number > 0 {
		err = session.CheckHandshakeLength(number, n)
	}
	if err != nil {
		// The session's own end reads no further, either.
		c.tell(i, c.kind(i, h), fmt.Sprintf("%s of %d bytes", c.what(i, h), n), header+n, err)
		h.lost, h.buf = true, nil
		return false
	}
	if len(h.buf) < header+n {
		return false
	}
	body := h.buf[header : header+n]
	text := fmt.Sprintf("%s, %d bytes", c.what(i, h), n)
	kind := c.kind(i, h)
	if number > 0 {
		c.messages[number-1] = append([]byte{}, body...)
		if number == 3 {
			if device := c.unlock(); device != "" {
				text += ", to " + printable(device)
			}
		}
	} else if c.open {
		text, err = c.record(i, h, body)
	}
	h.messages++
	h.buf = h.buf[header+n:]
	c.tell(i, kind, text, header+n, err)
	return true
}

// record opens a record.
func (c *conn) record(i int, h *half, body []byte) (string, error) {
	text := fmt.Sprintf("record, %d bytes", len(body))
	channel, payload, err := h.opener.Open(body)
	if err != nil {
		h.lost, c.open = true, false
		return text, err
	}
	return recordText(channel, payload, &h.way, &c.halves[1-i].way)
}

// unlock finds the keys of the session by the hash of its handshake. It returns the listener's name where the keys are known.
func (c *conn) unlock() string {
	if len(c.s.keys) == 0 {
		return ""
	}
	for key, device := range c.s.d.devices {
		k, ok := c.s.keys[session.HandshakeHash(key, c.messages)]
		if !ok {
			continue
		}
		for i := range c.halves {
			if c.ofDialler(i) {
				c.halves[i].opener = session.NewOpener(k.Dialler)
			} else {
				c.halves[i].opener = session.NewOpener(k.Listener)
			}
		}
		c.open = true
		return device
	}
	return ""
}
