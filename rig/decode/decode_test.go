package decode

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var update = flag.Bool("update", false, "write testdata/*.want anew")

// shown is a capture as golden files have it.
func shown(c *Capture) string {
	var b strings.Builder
	for _, p := range c.Packets {
		fmt.Fprintf(&b, "%d %s -> %s %s: %s", p.Frame, p.From, p.To, p.Kind, p.Text)
		if p.Malformed != "" {
			fmt.Fprintf(&b, " MALFORMED %s", p.Malformed)
		}
		fmt.Fprintln(&b)
	}
	for _, n := range c.Counts {
		fmt.Fprintf(&b, "%+v\n", n)
	}
	return b.String()
}

// What real runs have left: a connection that was blocked and then was not, with its keys; a stranger's connections; announces that are none.
func TestRealCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pcapng")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d captures, %v", len(files), err)
	}
	for _, file := range files {
		base := strings.TrimSuffix(file, ".pcapng")
		var keys []Keys
		if _, err := os.Stat(base + ".keys"); err == nil {
			if keys, err = KeyLog(base + ".keys"); err != nil {
				t.Fatal(err)
			}
		}
		c, err := File(file, keys)
		if err != nil {
			t.Fatal(err)
		}
		if c.Cut != "" {
			t.Errorf("%s is cut: %s", file, c.Cut)
		}
		got := shown(c)
		if *update {
			if err := os.WriteFile(base+".want", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(base + ".want")
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is shown as\n%s", file, got)
		}
	}
}

// A cut file gives what is there, wherever it was cut.
func TestCut(t *testing.T) {
	data, err := os.ReadFile("testdata/blocked.pcapng")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := Read(bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 300; n < len(data)-500; n += 37 {
		c, err := Read(bytes.NewReader(data[:n]), nil)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if c.Frames >= whole.Frames {
			t.Errorf("%d bytes have %d frames", n, c.Frames)
		}
	}
	if _, err := Read(strings.NewReader("no capture, but some text that somebody has named so"), nil); err == nil {
		t.Error("text is a capture")
	}
}

func TestCount(t *testing.T) {
	c, err := File("testdata/blocked.pcapng", nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Count("A", "B"); n.SYN != 3 || n.SYNACK != 0 || n.Handshakes != 2 {
		t.Errorf("A to B: %+v", n)
	}
	if n := c.Count("B", ""); n.SYNACK != 3 || n.Announces == 0 || n.ARP == 0 {
		t.Errorf("B to anybody: %+v", n)
	}
	if n := c.Count("", All); n.Announces == 0 || n.SYN != 0 {
		t.Errorf("to all: %+v", n)
	}
	if n := c.Count("", ""); n.Frames != c.Frames-1 { // the last one is there for its comments
		t.Errorf("%d of %d frames are counted", n.Frames, c.Frames)
	}
}

// A wire makes a capture of a session that the test itself has.
type wire struct {
	t     *testing.T
	file  bytes.Buffer
	out   *pcapgo.NgWriter
	times int
	seq   map[string]uint32
}

func newWire(t *testing.T) *wire {
	w := &wire{t: t, seq: map[string]uint32{"A": 1000, "B": 0xffffff00}} // B's wraps
	var err error
	w.out, err = pcapgo.NewNgWriterInterface(&w.file, pcapgo.NgInterface{Name: "A", LinkType: layers.LinkTypeEthernet},
		pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: Application}})
	if err == nil {
		_, err = w.out.AddInterface(pcapgo.NgInterface{Name: "B", LinkType: layers.LinkTypeEthernet})
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// end of a wire's ends.
func ends(from string) (own, peer byte) {
	if from == "A" {
		return 10, 11
	}
	return 11, 10
}

func (w *wire) frame(from string, all bool, payload ...gopacket.SerializableLayer) []byte {
	own, peer := ends(from)
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, own}, DstMAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, peer}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 42, 0, own}, DstIP: net.IP{10, 42, 0, peer}}
	if all {
		eth.DstMAC, ip.DstIP, ip.Protocol = net.HardwareAddr{1, 0, 0x5e, 42, 0, 1}, net.IP{239, 42, 0, 1}, layers.IPProtocolUDP
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, append([]gopacket.SerializableLayer{eth, ip}, payload...)...); err != nil {
		w.t.Fatal(err)
	}
	return slices.Clone(b.Bytes())
}

// put has a frame pass.
func (w *wire) put(from string, frame []byte, comments ...string) {
	w.times++
	info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(w.times), 0), CaptureLength: len(frame), Length: len(frame), InterfaceIndex: int(from[0] - 'A')}
	if err := w.out.WritePacketWithOptions(info, frame, pcapgo.NgPacketOptions{Comments: comments}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) announce(from, id string, port uint16, key [32]byte) {
	data, err := nxsb.Append(nil, nxsb.Announce{DeviceID: id, Port: port, Key: key, Services: []string{"packagefs"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(from, w.frame(from, true, &layers.UDP{SrcPort: 37020, DstPort: 37020}, gopacket.Payload(data)))
}

// segment makes the next segment of a direction; A's port is 40000, B's 34600.
func (w *wire) segment(from string, payload []byte, flags func(*layers.TCP)) []byte {
	t := &layers.TCP{SrcPort: 40000, DstPort: 34600, Seq: w.seq[from], ACK: true, Window: 1000}
	if from == "B" {
		t.SrcPort, t.DstPort = t.DstPort, t.SrcPort
	}
	if flags != nil {
		flags(t)
	}
	w.seq[from] += uint32(len(payload))
	if t.SYN || t.FIN {
		w.seq[from]++
	}
	return w.frame(from, false, t, gopacket.Payload(payload))
}

func (w *wire) connect() {
	w.put("A", w.segment("A", nil, func(t *layers.TCP) { t.SYN, t.ACK = true, false }))
	w.put("B", w.segment("B", nil, func(t *layers.TCP) { t.SYN = true }))
}

func (w *wire) read(keys ...Keys) *Capture {
	w.t.Helper()
	if err := w.out.Flush(); err != nil {
		w.t.Fatal(err)
	}
	c, err := Read(&w.file, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// sent keeps what is written to a connection, as one piece for each write.
type sent struct {
	net.Conn
	pieces [][]byte
}

func (s *sent) Write(p []byte) (int, error) {
	s.pieces = append(s.pieces, slices.Clone(p))
	return s.Conn.Write(p)
}

// A talk is a session between A and B, with what each side has written.
type talk struct {
	a, b         *session.Conn
	fromA, fromB *sent
	keys         Keys
	listener     [32]byte
}

func talking(t *testing.T) *talk {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	k := &talk{fromA: &sent{Conn: near}, fromB: &sent{Conn: far}}
	var pairs [2]session.KeyPair
	for i := range pairs {
		var err error
		if pairs[i], err = session.GenerateKeyPair(nil); err != nil {
			t.Fatal(err)
		}
	}
	k.listener = pairs[1].Public
	done := make(chan error, 1)
	go func() {
		var err error
		k.b, err = session.Respond(k.fromB, session.Config{Static: pairs[1]}, func([32]byte, string) error { return nil })
		done <- err
	}()
	var err error
	k.a, err = session.Initiate(k.fromA, session.Config{Static: pairs[0], DeviceID: "node-a", KeyLog: func(got Keys) { k.keys = got }}, k.listener)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return k
}

// say sends one record, and has it heard.
func (k *talk) say(t *testing.T, from, to *session.Conn, channel uint32, payload []byte) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- from.Send(channel, payload) }()
	if _, _, err := to.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// lines are those packets that a session is made of.
func lines(c *Capture) []string {
	var all []string
	for _, p := range c.Packets {
		switch p.Kind {
		case Handshake, Record, Gap:
			line := fmt.Sprintf("%d %s %s", p.Frame, p.From, p.Text)
			if p.Malformed != "" {
				line += " ! " + p.Malformed
			}
			all = append(all, line)
		}
	}
	return all
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Segments in another order, twice, and cut anywhere make the same stream; the port is known from the announce.
func TestReassembly(t *testing.T) {
	k := talking(t)
	w := newWire(t)
	w.announce("B", "node-b", 34600, k.listener)
	w.connect()
	w.put("A", w.segment("A", k.fromA.pieces[0], nil))
	w.put("B", w.segment("B", k.fromB.pieces[0], nil))
	w.put("A", w.segment("A", k.fromA.pieces[1], nil))
	k.say(t, k.a, k.b, session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop"))
	k.say(t, k.a, k.b, session.ChannelPackageFS, pk.AppendRead(nil, 1, 0, 32768))
	k.say(t, k.b, k.a, session.ChannelPackageFS, pk.AppendStatResponse(nil, pk.OK, 19, 0))
	k.say(t, k.b, k.a, session.ChannelPackageFS, pk.AppendReadResponse(nil, pk.OK, make([]byte, 3000)))
	requests := slices.Concat(k.fromA.pieces[2:]...)
	one, two, three := w.segment("A", requests[:7], nil), w.segment("A", requests[7:30], nil), w.segment("A", requests[30:], nil)
	w.put("A", three) // frame 7
	w.put("A", one)
	w.put("A", one)
	w.put("A", two) // 10: now both are whole
	answers := slices.Concat(k.fromB.pieces[1:]...)
	w.put("B", w.segment("B", answers[:100], nil))
	w.put("B", w.segment("B", answers[100:], nil), "a comment")
	w.put("A", w.segment("A", nil, func(t *layers.TCP) { t.FIN = true }))
	file := slices.Clone(w.read(k.keys).Packets)
	c := &Capture{Packets: file}
	same(t, lines(c),
		"4 A handshake 1, 48 bytes", "5 B handshake 2, 48 bytes", "6 A handshake 3, 70 bytes, to node-b",
		"10 A STAT system/build.prop", "10 A READ h=1 off=0 len=32768",
		"11 B STAT system/build.prop -> OK size=19", "12 B READ h=1 off=0 len=32768 -> OK n=3000")
	if !slices.ContainsFunc(file, func(p Packet) bool { return p.Kind == Note && p.Text == "a comment" && p.Frame == 12 }) {
		t.Error("the comment is missing")
	}
	if last := file[len(file)-1]; last.Kind != FIN || last.From != "A" || last.To != "B" || last.Text != "FIN 40000 -> 34600" {
		t.Errorf("the last packet is %+v", last)
	}
}

// Without keys records have a length; with those of another session, too.
func TestWithoutKeys(t *testing.T) {
	for _, keys := range [][]Keys{nil, {{}}} {
		k := talking(t)
		w := newWire(t)
		w.announce("B", "node-b", 34600, k.listener)
		w.connect()
		k.say(t, k.a, k.b, session.ChannelControl, session.AppendPing(nil))
		w.put("A", w.segment("A", k.fromA.pieces[0], nil))
		w.put("B", w.segment("B", k.fromB.pieces[0], nil))
		w.put("A", w.segment("A", slices.Concat(k.fromA.pieces[1:]...), nil))
		same(t, lines(w.read(keys...)), "4 A handshake 1, 48 bytes", "5 B handshake 2, 48 bytes", "6 A handshake 3, 70 bytes", "6 A record, 21 bytes")
	}
}

// What the capture lacks is said, and nothing is made up behind it. The other direction goes on.
func TestGap(t *testing.T) {
	k := talking(t)
	w := newWire(t)
	w.announce("B", "node-b", 34600, k.listener)
	w.connect()
	w.put("A", w.segment("A", k.fromA.pieces[0], nil))
	w.segment("A", k.fromA.pieces[1][:20], nil) // never captured
	w.put("A", w.segment("A", k.fromA.pieces[1][20:], nil))
	w.put("B", w.segment("B", k.fromB.pieces[0], nil))
	same(t, lines(w.read()), "4 A handshake 1, 48 bytes", "5 A 20 bytes of the stream are not in the capture; the rest of it cannot be told apart", "6 B handshake 2, 48 bytes")
}

func TestMalformedStreams(t *testing.T) {
	k := talking(t)
	w := newWire(t)
	w.announce("B", "node-b", 34600, k.listener)
	w.connect()
	w.put("A", w.segment("A", []byte("GET / HTTP/1.0\r\n\r\n"), nil))
	w.put("B", w.segment("B", []byte{0, 48, 1, 2, 3}, nil))
	w.put("B", w.segment("B", nil, func(t *layers.TCP) { t.FIN = true }))
	w.put("A", w.segment("A", nil, func(t *layers.TCP) { t.RST = true }))
	c := w.read()
	same(t, lines(c), "4 A handshake 1 of 18245 bytes ! session: handshake message of the wrong length: message 1 of 18245 bytes",
		"7 B handshake 2, 5 bytes of it ! the stream ends within it")
	if n := c.Count("A", "B"); n.Malformed != 1 || n.RST != 1 {
		t.Errorf("counted %+v", n)
	}
}

// A machine that was started again connects from the same port: that is another session.
func TestSamePortAgain(t *testing.T) {
	w := newWire(t)
	for i := range 2 {
		k := talking(t)
		w.announce("B", "node-b", 34600, k.listener)
		w.seq["A"] = uint32(5000 * (i + 1))
		w.connect()
		w.put("A", w.segment("A", k.fromA.pieces[0], nil))
		w.put("B", w.segment("B", k.fromB.pieces[0], nil))
	}
	same(t, lines(w.read()), "4 A handshake 1, 48 bytes", "5 B handshake 2, 48 bytes", "9 A handshake 1, 48 bytes", "10 B handshake 2, 48 bytes")
}

// A forged record is shown as one, and what follows no longer opened.
func TestForgedRecord(t *testing.T) {
	k := talking(t)
	w := newWire(t)
	w.announce("B", "node-b", 34600, k.listener)
	w.connect()
	w.put("A", w.segment("A", k.fromA.pieces[0], nil))
	w.put("B", w.segment("B", k.fromB.pieces[0], nil))
	w.put("A", w.segment("A", k.fromA.pieces[1], nil))
	w.put("A", w.segment("A", append([]byte{0, 21}, make([]byte, 21)...), nil))
	same(t, lines(w.read(k.keys)), "4 A handshake 1, 48 bytes", "5 B handshake 2, 48 bytes", "6 A handshake 3, 70 bytes, to node-b",
		"7 A record, 21 bytes ! session: record cannot be decrypted")
}

// Whatever frames hold, decoding them ends.
func FuzzFrames(f *testing.F) {
	for _, name := range []string{"blocked", "stranger"} {
		file, err := os.Open("testdata/" + name + ".pcapng")
		if err != nil {
			f.Fatal(err)
		}
		defer file.Close()
		r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			f.Fatal(err)
		}
		for i := 0; ; i++ {
			data, _, err := r.ReadPacketData()
			if err != nil {
				break
			}
			if i%5 == 0 {
				f.Add(data, data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := newDecoder(nil)
		d.ours = true
		for i, data := range [][]byte{one, two, one} {
			d.frame("A", gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(data), Length: len(data)}, data, nil)
		}
		d.streams.end()
		for _, p := range d.packets {
			if strings.ContainsAny(p.Text, "\n\x1b\x00") {
				t.Errorf("%+v", p)
			}
		}
	})
}
