package lan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// needFilters skips where the kernel truly has no such filters, with what is missing.
func needFilters(t *testing.T) {
	t.Helper()
	if err := ProbeFilters(); errors.Is(err, ErrNoFilters) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// gone fails the test at its end when anything of the faults is left. To be called before newLAN.
func gone(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		c, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		tables, err := c.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			t.Errorf("the table %s is left", table.Name)
		}
	})
}

// three makes a network of A, B and C, connected to each other.
func three(t *testing.T) (*LAN, *station, *station, *station) {
	t.Helper()
	ctx := inNamespace(t)
	gone(t)
	l := newLAN(t, ctx, Config{})
	a, b, c := newStation(t, l, "A", 10), newStation(t, l, "B", 11), newStation(t, l, "C", 12)
	a.connected(b, c)
	b.connected(a, c)
	c.connected(a, b)
	return l, a, b, c
}

// sends sends frames of the test's own type, numbered.
func (s *station) sends(to *station, what string, n int) {
	s.t.Helper()
	for i := range n {
		s.send(s.frame(to.mac, fmt.Sprint(what, " ", i)))
	}
}

// gets fails the test unless these frames are what comes next to the station (of the test's own type, other than those of connected). No wait tells
// that nothing comes: the last of them is one that must, and order is kept.
func (s *station) gets(want ...string) {
	s.t.Helper()
	for _, w := range want {
		f := s.receive(w, func(f []byte) bool { return isType(f, experimental) && !isTest("is anybody there")(f) })
		if got := strings.TrimSpace(string(f[14:])); got != w {
			s.t.Fatalf("%s got %q, want %q", s.port.Name(), got, w)
		}
	}
}

// otherPort is the source's in packets.
const otherPort = 12345

// packet is a frame with a TCP segment or a UDP datagram to a port. No one checks its sums on the way.
func (s *station) packet(to *station, proto byte, port uint16, payload string) []byte {
	return s.packetFrom(otherPort, to, proto, port, payload)
}

func (s *station) packetFrom(from uint16, to *station, proto byte, port uint16, payload string) []byte {
	ip := append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0}, append(s.ip.AsSlice(), to.ip.AsSlice()...)...)
	l4 := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), port)
	if proto == unix.IPPROTO_UDP {
		l4 = append(l4, 0, byte(8+len(payload)), 0, 0)
	} else {
		l4 = append(l4, 0, 0, 0, 0, 0, 0, 0, 0, 5<<4, 0x18, 0, 0, 0, 0, 0, 0)
	}
	l4 = append(l4, payload...)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(l4)))
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip))
	f := append(append(bytes.Clone(to.mac), s.mac...), 0x08, 0x00)
	return append(append(f, ip...), l4...)
}

// piece makes a packet one of a datagram's later pieces, whose first bytes are no header.
func piece(f []byte) []byte {
	binary.BigEndian.PutUint16(f[20:], 1)
	copy(f[24:], []byte{0, 0})
	binary.BigEndian.PutUint16(f[24:], ^sum(0, f[14:34]))
	return f
}

func (s *station) packet6(to *station, proto byte, port uint16, payload string) []byte {
	v4 := s.packet(to, proto, port, payload)
	l4 := v4[34:]
	ip := []byte{0x60, 0, 0, 0, 0, byte(len(l4)), proto, 64}
	ip = append(ip, append([]byte{0xfd, 15: s.mac[5]}, append([]byte{0xfd}, append(make([]byte, 14), to.mac[5])...)...)...)
	return append(append(bytes.Clone(v4[:12]), 0x86, 0xdd), append(ip, l4...)...)
}

func (s *station) arp(to *station) []byte {
	f := append(append(bytes.Clone(broadcast), s.mac...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(f, s.mac...), s.ip.AsSlice()...)
	return append(append(append(f, 0, 0, 0, 0, 0, 0), to.ip.AsSlice()...), make([]byte, 18)...)
}

func (s *station) faults() Faults {
	s.t.Helper()
	f, err := s.port.lan.Faults()
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func ok[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestCable(t *testing.T) {
	l, a, b, c := three(t)
	needFilters(t)
	if drops, err := a.port.SetCable(true); err != nil || drops != (CableDrops{}) {
		t.Errorf("plugged in: %+v, %v", drops, err)
	}
	ok[CableDrops](t)(a.port.SetCable(false))

	a.sends(b, "out", 3)
	b.sends(a, "in", 5)
	// Unknown and broadcast addresses are copied to the port, too.
	c.send(c.frame(broadcast, "to all"))
	// The rig is on the other side of the cable as well.
	c.send(a.arp(c)[:60])
	a.send(a.frame(DefaultMAC, "to the rig"))
	if err := l.UDP(t.Context(), l.rig(), l.everybody(), []byte("from the rig")); err != nil {
		t.Fatal(err)
	}
	b.gets("to all")
	c.sends(b, "others", 1)
	b.gets("others 0")

	want := CableDrops{Sent: Drops{4, 4 * 60}, Received: Drops{5 + 3, 5*60 + 60 + 60 + (14 + 20 + 8 + 12)}}
	same(t, "while pulled", ok[CableDrops](t)(a.port.SetCable(false)), want)
	same(t, "faults", a.faults(), Faults{Cables: []CableFault{{"A", want}}})
	same(t, "plugged in", ok[CableDrops](t)(a.port.SetCable(true)), want)
	same(t, "faults afterwards", a.faults(), Faults{})

	a.sends(b, "again out", 1)
	b.gets("again out 0")
	b.sends(a, "again in", 1)
	a.gets("again in 0")
	ok[CableDrops](t)(a.port.SetCable(false))
	same(t, "counts anew", ok[CableDrops](t)(a.port.SetCable(true)), CableDrops{})
}

func TestBlockIsOneWay(t *testing.T) {
	l, a, b, c := three(t)
	needFilters(t)
	block := Block{From: "A", To: "B"}
	ok[Drops](t)(l.Block(block))

	a.sends(b, "test", 2)
	a.send(a.arp(b))
	a.send(a.packet(b, unix.IPPROTO_TCP, 80, "tcp"))
	a.send(a.packet6(b, unix.IPPROTO_UDP, 53, "udp"))
	a.send(a.frame(broadcast, "to all but B"))
	c.gets("to all but B")
	c.sends(b, "from C", 1)
	b.gets("from C 0") // and nothing of A's before it
	b.sends(a, "back", 3)
	a.gets("back 0", "back 1", "back 2")

	want := Drops{6, 2*60 + 60 + (14 + 20 + 20 + 3) + (14 + 40 + 8 + 3) + 60}
	same(t, "faults", a.faults(), Faults{Blocks: []BlockFault{{block, want}}})
	same(t, "unblocked", ok[Drops](t)(l.Unblock(block)), want)
	a.sends(b, "again", 1)
	b.gets("again 0")
	if _, err := l.Unblock(block); err == nil || !strings.Contains(err.Error(), "unblock A -> B: it is not blocked") {
		t.Errorf("error %v", err)
	}
}

func TestBlockByPort(t *testing.T) {
	l, a, b, _ := three(t)
	needFilters(t)
	frames := func() map[string][]byte {
		return map[string][]byte{
			"arp":        a.arp(b),
			"tcp 80":     a.packet(b, unix.IPPROTO_TCP, 80, "x"),
			"tcp 81":     a.packet(b, unix.IPPROTO_TCP, 81, "x"),
			"udp 80":     a.packet(b, unix.IPPROTO_UDP, 80, "x"),
			"udp 81":     a.packet(b, unix.IPPROTO_UDP, 81, "x"),
			"v6tcp 80":   a.packet6(b, unix.IPPROTO_TCP, 80, "x"),
			"v6udp 80":   a.packet6(b, unix.IPPROTO_UDP, 80, "x"),
			"of 80":      a.packetFrom(80, b, unix.IPPROTO_TCP, 4000, "x"),
			"80 of 80":   a.packetFrom(80, b, unix.IPPROTO_TCP, 80, "x"),
			"udp of 80":  a.packetFrom(80, b, unix.IPPROTO_UDP, 4000, "x"),
			"late piece": piece(a.packetFrom(80, b, unix.IPPROTO_TCP, 80, "x")),
			"test":       a.frame(b.mac, "test"),
		}
	}
	tests := []struct {
		block   Block
		blocked []string
	}{
		{Block{Proto: "tcp", Port: 80}, []string{"tcp 80", "v6tcp 80", "of 80", "80 of 80"}},
		{Block{Proto: "udp", Port: 80}, []string{"udp 80", "v6udp 80", "udp of 80"}},
		{Block{Proto: "udp"}, []string{"udp 80", "udp 81", "v6udp 80", "udp of 80"}},
		{Block{Proto: "tcp"}, []string{"tcp 80", "tcp 81", "v6tcp 80", "of 80", "80 of 80", "late piece"}},
		{Block{}, []string{"arp", "tcp 80", "tcp 81", "udp 80", "udp 81", "v6tcp 80", "v6udp 80", "of 80", "80 of 80", "udp of 80", "late piece", "test"}},
	}
	for i, tt := range tests {
		tt.block.From, tt.block.To = "A", "B"
		t.Run(tt.block.String(), func(t *testing.T) {
			ok[Drops](t)(l.Block(tt.block))
			var want Drops
			for name, frame := range frames() {
				if slices.Contains(tt.blocked, name) {
					want.Frames++
					want.Bytes += uint64(len(frame))
				}
				a.send(frame)
			}
			same(t, "dropped", ok[Drops](t)(l.Unblock(tt.block)), want)
			end := fmt.Sprint("end ", i)
			a.send(a.frame(b.mac, end))
			var got []string
			b.receive(end, func(f []byte) bool {
				for name, frame := range frames() {
					if bytes.Equal(f, frame) {
						got = append(got, name)
					}
				}
				return isTest(end)(f)
			})
			for name := range frames() {
				if slices.Contains(got, name) == slices.Contains(tt.blocked, name) {
					t.Errorf("%s: arrived %v", name, slices.Contains(got, name))
				}
			}
		})
	}
}

func TestBlockFirst(t *testing.T) {
	l, a, b, c := three(t)
	needFilters(t)
	block := Block{From: "A", To: "B", First: 3}
	ok[Drops](t)(l.Block(block))
	c.sends(b, "other", 4) // is not counted
	a.sends(b, "n", 6)
	b.gets("other 0", "other 1", "other 2", "other 3", "n 3", "n 4", "n 5")
	same(t, "faults", a.faults(), Faults{Blocks: []BlockFault{{block, Drops{3, 180}}}})

	// The same again begins anew, with another number, too.
	block.First = 1
	same(t, "replaced", ok[Drops](t)(l.Block(block)), Drops{3, 180})
	a.sends(b, "m", 2)
	b.gets("m 1")
	same(t, "faults", a.faults(), Faults{Blocks: []BlockFault{{block, Drops{1, 60}}}})
	same(t, "unblocked", ok[Drops](t)(l.Unblock(Block{From: "A", To: "B"})), Drops{1, 60})

	// Only what matches is one of the first.
	ok[Drops](t)(l.Block(Block{From: "A", To: "B", Proto: "udp", Port: 7, First: 1}))
	a.sends(b, "o", 2)
	for i := range 2 {
		a.send(a.packet(b, unix.IPPROTO_UDP, 7, fmt.Sprint("udp ", i)))
	}
	b.gets("o 0", "o 1")
	f := b.receive("a datagram", func(f []byte) bool { return isType(f, 0x0800) })
	if got := string(f[42:]); got != "udp 1" {
		t.Errorf("the first to arrive is %q", got)
	}
}

func TestPartitionAndHeal(t *testing.T) {
	l, a, b, c := three(t)
	needFilters(t)
	blocks := []Block{{From: "B", To: "A", Proto: "udp", Port: 9}, {From: "A", To: "C"}, {From: "A", To: "B", First: 1}}
	for _, block := range blocks {
		ok[Drops](t)(l.Block(block))
	}
	a.sends(c, "dropped", 2)
	a.sends(b, "dropped", 1)
	ok[CableDrops](t)(c.port.SetCable(false))
	c.sends(a, "no cable", 1)
	for range 2 {
		if err := l.Partition(); err != nil {
			t.Fatal(err)
		}
	}
	before := [2]Counters{a.counters(), b.counters()}
	a.sends(b, "parted", 2)
	b.sends(a, "parted", 1)
	b.send(b.frame(DefaultMAC, "to the rig"))
	if err := l.UDP(t.Context(), l.rig(), l.everybody(), []byte("from the rig")); err != nil {
		t.Fatal(err)
	}
	if after := [2]Counters{a.counters(), b.counters()}; after[0].Received != before[0].Received || after[1].Received != before[1].Received {
		t.Errorf("frames arrived: %+v, before %+v", after, before)
	}
	const datagram = 14 + 20 + 8 + 12
	want := Faults{
		// Which of two faults drops a frame first is not said, but one of them counts it.
		Cables:    []CableFault{{"C", CableDrops{Sent: Drops{1, 60}}}},
		Blocks:    []BlockFault{{blocks[2], Drops{1, 60}}, {blocks[1], Drops{2, 120}}, {blocks[0], Drops{}}},
		Partition: &Drops{4 + 3, 4*60 + 3*datagram},
	}
	got := a.faults()
	got.Partition.Frames += got.Cables[0].Drops.Received.Frames
	got.Partition.Bytes += got.Cables[0].Drops.Received.Bytes
	got.Cables[0].Drops.Received = Drops{}
	same(t, "faults", got, want)
	got = ok[Faults](t)(l.Heal())
	got.Partition.Frames += got.Cables[0].Drops.Received.Frames
	got.Partition.Bytes += got.Cables[0].Drops.Received.Bytes
	got.Cables[0].Drops.Received = Drops{}
	same(t, "healed", got, want)
	same(t, "faults afterwards", a.faults(), Faults{})
	same(t, "healed again", ok[Faults](t)(l.Heal()), Faults{})

	c.sends(a, "whole", 1)
	a.gets("whole 0")
	a.sends(b, "whole", 1)
	b.gets("whole 0")
	a.sends(c, "whole", 1)
	c.gets("whole 0")
}

func TestBlockRefuses(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	for _, name := range []string{"A", "B"} {
		ok[*Port](t)(l.AddPort(name))
	}
	tests := []struct {
		block Block
		want  string
	}{
		{Block{From: "A", To: "D"}, `block A -> D: there is no port "D"`},
		{Block{From: "", To: "A"}, `there is no port ""`},
		{Block{From: "br0", To: "A"}, `there is no port "br0"`},
		{Block{From: "A", To: "A"}, "no frame goes from a port to itself"},
		{Block{From: "A", To: "B", Proto: "icmp"}, `block A -> B icmp: unknown protocol "icmp"`},
		{Block{From: "A", To: "B", Port: 80}, "block A -> B 80: port 80 without a protocol"},
	}
	for _, tt := range tests {
		if _, err := l.Block(tt.block); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want %q", tt.block, err, tt.want)
		}
	}
	without(t, unix.CAP_NET_ADMIN, func() {
		var host *HostError
		if _, err := l.Block(Block{From: "A", To: "B"}); !errors.As(err, &host) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("error %v", err)
		}
		if err := ProbeFilters(); !errors.As(err, &host) || errors.Is(err, ErrNoFilters) {
			t.Errorf("error %v: a permission is no lack of the kernel", err)
		}
	})
	same(t, "faults", ok[Faults](t)(l.Faults()), Faults{})
}

func TestFaultsGoWithTheNetwork(t *testing.T) {
	ctx := inNamespace(t)
	needFilters(t)
	gone(t)
	before := links(t)
	l := ok[*LAN](t)(New(ctx, Config{}))
	p := ok[*Port](t)(l.AddPort("A"))
	ok[*Port](t)(l.AddPort("B"))
	ok[CableDrops](t)(p.SetCable(false))
	ok[Drops](t)(l.Block(Block{From: "A", To: "B"}))
	if _, err := p.Impair(Impairment{Rate: 1000}); err != nil && !errors.Is(err, ErrNoNetem) {
		t.Fatal(err)
	}
	if err := l.Partition(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "links", links(t), before)
	for what, f := range map[string]func() error{
		"SetCable":        func() error { _, err := p.SetCable(true); return err },
		"Block":           func() error { _, err := l.Block(Block{From: "A", To: "B"}); return err },
		"Unblock":         func() error { _, err := l.Unblock(Block{From: "A", To: "B"}); return err },
		"Partition":       l.Partition,
		"Impair":          func() error { _, err := p.Impair(Impairment{Loss: 1}); return err },
		"ClearImpairment": func() error { _, err := p.ClearImpairment(); return err },
		"Faults":          func() error { _, err := l.Faults(); return err },
		"Heal":            func() error { _, err := l.Heal(); return err },
	} {
		if err := f(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s afterwards: %v", what, err)
		}
	}
}

func TestFaultsConcurrently(t *testing.T) {
	l, a, b, c := three(t)
	needFilters(t)
	var wg sync.WaitGroup
	end := time.Now().Add(200 * time.Millisecond)
	for i, f := range []func() error{
		func() error { _, err := a.port.SetCable(false); return err },
		func() error { _, err := a.port.SetCable(true); return err },
		func() error { _, err := l.Block(Block{From: "A", To: "B"}); return err },
		func() error { _, err := l.Block(Block{From: "B", To: "A", First: 2}); return err },
		l.Partition,
		func() error { _, err := l.Faults(); return err },
		func() error { _, err := l.Heal(); return err },
		func() error {
			if _, err := c.port.Impair(Impairment{Rate: 1 << 20}); !errors.Is(err, ErrNoNetem) {
				return err
			}
			return nil
		},
	} {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := f(); err != nil {
					t.Errorf("%d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	ok[Faults](t)(l.Heal())
	same(t, "faults", a.faults(), Faults{})
	a.sends(b, "whole", 1)
	b.gets("whole 0")
}

func TestProbeFilters(t *testing.T) {
	inNamespace(t)
	gone(t)
	before := links(t)
	err := ProbeFilters()
	var host *HostError
	switch {
	case err == nil:
	case !errors.Is(err, ErrNoFilters) || !errors.As(err, &host) || host.Next == "":
		t.Errorf("error %v", err)
	default:
		t.Skip(err)
	}
	same(t, "links", links(t), before)

	// What the answer looks like where a part is missing.
	err = fmt.Errorf("block A -> B: %w", noFilters("counting of matches in nftables", "nft_numgen", unix.ENOENT))
	want := "block A -> B: this kernel has no counting of matches in nftables: no such file or directory (load it: `modprobe -a nft_numgen`, or use a kernel that has it)"
	if !errors.Is(err, ErrNoFilters) || !errors.Is(err, unix.ENOENT) || err.Error() != want {
		t.Errorf("error %q", err)
	}
	// A refusal of something that is there stays what it is.
	if got := explainFilters(unix.ENOENT); got != unix.ENOENT {
		t.Errorf("error %v", got)
	}
	if _, err := netlink.LinkByName("lo"); err != nil {
		t.Error(err)
	}
}

// rig is the rig's own source, everybody the network's broadcast address.
func (l *LAN) rig() netip.AddrPort { return netip.AddrPortFrom(l.Addr(), 0) }

func (l *LAN) everybody() netip.AddrPort { return netip.MustParseAddrPort("10.42.0.255:4000") }
