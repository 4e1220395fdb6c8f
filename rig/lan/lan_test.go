package lan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/netnstest"
	"dsoftbus-rig/rig/pace/pacetest"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The tests run in a user and network namespace of their own.
func TestMain(m *testing.M) { netnstest.Main(m) }

// deadline is for waits that an event ends; it only ends a test that hangs.
var deadline = pacetest.Limit(20 * time.Second)

func inNamespace(t *testing.T) context.Context {
	t.Helper()
	netnstest.Need(t)
	if err := CheckTun(""); err != nil {
		t.Skipf("this host has no usable tun device: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func links(t *testing.T) []string {
	t.Helper()
	list, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		names = append(names, l.Attrs().Name)
	}
	return names
}

// newLAN makes a LAN that is taken away at the end of the test, which fails if anything of it is left.
func newLAN(t *testing.T, ctx context.Context, cfg Config) *LAN {
	t.Helper()
	before := links(t)
	l, err := New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("teardown: %v", err)
		}
		if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("links before %v, after %v", before, after)
		}
	})
	return l
}

func TestNewMakesTheBridge(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	link, err := netlink.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	a := link.Attrs()
	if a.HardwareAddr.String() != DefaultMAC.String() || a.MTU != 1500 || a.Flags&net.FlagUp == 0 {
		t.Errorf("bridge %s, MTU %d, %s", a.HardwareAddr, a.MTU, a.Flags)
	}
	br, ok := link.(*netlink.Bridge)
	if !ok || br.MulticastSnooping == nil || *br.MulticastSnooping {
		t.Errorf("%s: snooping is not off", link.Type())
	}
	attrs := bridgeAttrs(t, a.Index)
	for name, attr := range map[string]uint16{"forward delay": nl.IFLA_BR_FORWARD_DELAY, "STP": nl.IFLA_BR_STP_STATE} {
		if v, ok := attrs[attr]; !ok || binary.NativeEndian.Uint32(v) != 0 {
			t.Errorf("%s is %v, want 0", name, v)
		}
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 || addrs[0].IPNet.String() != "10.42.0.1/24" {
		t.Errorf("addresses %v, want 10.42.0.1/24 and nothing of IPv6", addrs)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil || lo.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("lo is not up: %v", err)
	}
	if l.Addr() != netip.MustParseAddr("10.42.0.1") || l.Prefix() != DefaultPrefix {
		t.Errorf("%s, %s", l.Addr(), l.Prefix())
	}
}

// bridgeAttrs asks the kernel for what package netlink does not parse.
func bridgeAttrs(t *testing.T, index int) map[uint16][]byte {
	t.Helper()
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	answer, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(b []byte) map[uint16][]byte {
		attrs, err := nl.ParseRouteAttr(b)
		if err != nil {
			t.Fatal(err)
		}
		m := make(map[uint16][]byte)
		for _, a := range attrs {
			m[a.Attr.Type&^unix.NLA_F_NESTED] = a.Value
		}
		return m
	}
	top := parse(answer[0][unix.SizeofIfInfomsg:])
	return parse(parse(top[unix.IFLA_LINKINFO])[nl.IFLA_INFO_DATA])
}

func TestOtherConfig(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{Bridge: "lan-x", Prefix: netip.MustParsePrefix("192.168.7.1/28"), MTU: 1400, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}})
	if _, err := l.AddPort("p"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lan-x", "p"} {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().MTU != 1400 {
			t.Errorf("%s: %v, MTU %d", name, err, link.Attrs().MTU)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	ctx := inNamespace(t)
	wantHost := func(t *testing.T, err error, parts ...string) {
		t.Helper()
		var host *HostError
		if !errors.As(err, &host) || host.Next == "" {
			t.Fatalf("error %v is no HostError with a next step", err)
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q lacks %q", err, part)
			}
		}
	}
	t.Run("second in the same namespace", func(t *testing.T) {
		newLAN(t, ctx, Config{})
		_, err := New(ctx, Config{Bridge: "br1"})
		wantHost(t, err, "in use", "br0", "rig run")
		if got := strings.Join(links(t), " "); !strings.Contains(got, "br0") {
			t.Errorf("the first one is gone: %s", got)
		}
	})
	t.Run("no tun device", func(t *testing.T) {
		_, err := New(ctx, Config{Tun: "/dev/net/no-such-tun"})
		wantHost(t, err, "/dev/net/no-such-tun is missing", "modprobe tun")
	})
	t.Run("something else in its place", func(t *testing.T) {
		_, err := New(ctx, Config{Tun: "/dev/null"})
		wantHost(t, err, "/dev/null is not a tun device", "modprobe tun")
	})
	t.Run("no permission for the tun device", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tun")
		if err := os.WriteFile(path, nil, 0); err != nil {
			t.Fatal(err)
		}
		without(t, unix.CAP_DAC_OVERRIDE, func() {
			_, err := New(ctx, Config{Tun: path})
			wantHost(t, err, "no permission for "+path, "chmod")
		})
	})
	t.Run("no capability", func(t *testing.T) {
		without(t, unix.CAP_NET_ADMIN, func() {
			_, err := New(ctx, Config{})
			wantHost(t, err, "CAP_NET_ADMIN", "as root")
		})
	})
	t.Run("the kernel refuses what the capabilities allow", func(t *testing.T) {
		wantHost(t, explainNetlink(fmt.Errorf("add bridge: %w", unix.EPERM)), "CAP_NET_ADMIN", "apparmor", "add bridge")
	})
	t.Run("bad bridge name", func(t *testing.T) {
		if _, err := New(ctx, Config{Bridge: "br%d"}); err == nil || !strings.Contains(err.Error(), "br%d") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("IPv6", func(t *testing.T) {
		if _, err := New(ctx, Config{Prefix: netip.MustParsePrefix("fd00::1/64")}); err == nil || !strings.Contains(err.Error(), "not IPv4") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		gone, cancel := context.WithCancelCause(ctx)
		why := errors.New("asked to stop")
		cancel(why)
		if _, err := New(gone, Config{}); !errors.Is(err, why) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("half way", func(t *testing.T) {
		before := links(t)
		if _, err := New(ctx, Config{MTU: 1 << 24}); err == nil {
			t.Error("a frame of 16 MiB was accepted")
		}
		if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("links before %v, after %v", before, after)
		}
	})
}

// without runs f on a thread that lacks a capability, and dies with it.
func without(t *testing.T, capability int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			t.Error(err)
			return
		}
		data[0].Effective &^= 1 << capability
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestAddPortRefuses(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	if _, err := l.AddPort("A"); err != nil {
		t.Fatal(err)
	}
	before := links(t)
	tests := []struct{ name, want string }{
		{"A", "there is a port of that name"},
		{"lo", "there is a link of that name"},
		{"br0", "there is a link of that name"},
		{"sixteen-letters-", "too long for a link: 16 bytes, at most 15"},
		{"", "no link name"},
		{"..", "no link name"},
		{"tap%d", "no link name"},
		{"a/b", "no link name"},
		{"a b", "no link name"},
	}
	for _, tt := range tests {
		if _, err := l.AddPort(tt.name); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("AddPort(%q): %v, want %q", tt.name, err, tt.want)
		}
	}
	if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("links before %v, after %v", before, after)
	}
	if _, err := l.AddPort("fifteen-letters"); err != nil {
		t.Error(err)
	}
}

func TestAddPortHalfWay(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	before := links(t)
	l.cfg.MTU = 1 << 24
	if _, err := l.AddPort("A"); err == nil || !strings.Contains(err.Error(), "add port A: set its MTU") {
		t.Errorf("error %v", err)
	}
	if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("links before %v, after %v", before, after)
	}
}

func TestClose(t *testing.T) {
	ctx := inNamespace(t)
	before := links(t)
	l, err := New(ctx, Config{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.AddPort("A")
	if err != nil {
		t.Fatal(err)
	}
	held, err := p.Open() // a machine that still runs
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("links before %v, after %v", before, after)
	}
	if lo, err := netlink.LinkByName("lo"); err != nil || lo.Attrs().Flags&net.FlagUp != 0 {
		t.Errorf("lo is still up: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := l.AddPort("B"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("AddPort afterwards: %v", err)
	}
	if _, err := p.Counters(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Counters afterwards: %v", err)
	}
	newLAN(t, ctx, Config{}) // and the namespace can be used again
}

func TestCloseRunsBackwards(t *testing.T) {
	l := &LAN{}
	var order []string
	for _, what := range []string{"first", "second", "third"} {
		l.undo(what, func() error {
			order = append(order, what)
			return errors.New("no")
		})
	}
	err := l.Close()
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("taken away in the order %s", got)
	}
	for _, what := range order {
		if !strings.Contains(err.Error(), what+": no") {
			t.Errorf("error %q lacks that of the %s", err, what)
		}
	}
}

func TestCloseGoesOn(t *testing.T) {
	ctx := inNamespace(t)
	before := links(t)
	l, err := New(ctx, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"A", "B"} {
		if _, err := l.AddPort(name); err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkDel(link); err != nil { // somebody was faster
			t.Fatal(err)
		}
	}
	err = l.Close()
	if err == nil || !strings.Contains(err.Error(), "delete port A") || !strings.Contains(err.Error(), "delete port B") {
		t.Errorf("error %v, want both ports in it", err)
	}
	if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("links before %v, after %v", before, after)
	}
}

// A station stands in for a machine: it holds a port and sends and takes frames.
type station struct {
	t    *testing.T
	port *Port
	f    *os.File
	mac  net.HardwareAddr
	ip   netip.Addr
}

func newStation(t *testing.T, l *LAN, name string, n byte) *station {
	t.Helper()
	p, err := l.AddPort(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &station{t: t, port: p, mac: net.HardwareAddr{0x02, 0, 10, 42, 0, n}, ip: netip.AddrFrom4([4]byte{10, 42, 0, n})}
	s.open()
	return s
}

func (s *station) open() {
	s.t.Helper()
	f, err := s.port.Open()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := f.SetDeadline(time.Now().Add(deadline)); err != nil {
		s.t.Fatalf("the tap has no deadlines: %v", err)
	}
	s.f = f
	s.t.Cleanup(func() { f.Close() })
}

func (s *station) send(frame []byte) {
	s.t.Helper()
	if _, err := s.f.Write(append(make([]byte, virtioHeader), frame...)); err != nil {
		s.t.Fatalf("%s: send: %v", s.port.Name(), err)
	}
}

// receive returns the next frame that match accepts, and answers ARP requests meanwhile.
func (s *station) receive(what string, match func(frame []byte) bool) []byte {
	s.t.Helper()
	frame, err := s.next(match)
	if err != nil {
		s.t.Fatalf("%s: waiting for %s: %v", s.port.Name(), what, err)
	}
	return frame
}

func (s *station) next(match func(frame []byte) bool) ([]byte, error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := s.f.Read(buf)
		if err != nil {
			return nil, err
		}
		if n < virtioHeader+14 {
			return nil, fmt.Errorf("%d bytes are no frame with a header", n)
		}
		frame := bytes.Clone(buf[virtioHeader:n])
		if match(frame) {
			return frame, nil
		}
		if reply := s.arpReply(frame); reply != nil {
			s.send(reply)
		}
	}
}

// persuade calls send again and again until the station has what it sends: the first frames after a port is opened may be lost, as on
// any network whose cable was just plugged in.
func (s *station) persuade(send func(), match func(frame []byte) bool) []byte {
	s.t.Helper()
	end := time.Now().Add(deadline)
	defer func() {
		if err := s.f.SetDeadline(end); err != nil {
			s.t.Fatal(err)
		}
	}()
	for {
		send()
		if err := s.f.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			s.t.Fatal(err)
		}
		frame, err := s.next(match)
		if err == nil {
			return frame
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			s.t.Fatalf("%s: nothing comes: %v", s.port.Name(), err)
		}
	}
}

// connected waits until frames cross from s to each of the others.
func (s *station) connected(others ...*station) {
	s.t.Helper()
	for _, o := range others {
		o.persuade(func() { s.send(s.frame(broadcast, "is anybody there")) }, isTest("is anybody there"))
	}
}

func (s *station) arpReply(frame []byte) []byte {
	if len(frame) < 42 || !isType(frame, 0x0806) || frame[21] != 1 || !bytes.Equal(frame[38:42], s.ip.AsSlice()) {
		return nil
	}
	reply := bytes.Clone(frame[:42])
	copy(reply[0:6], frame[6:12])
	copy(reply[6:12], s.mac)
	reply[21] = 2
	copy(reply[22:28], s.mac)
	copy(reply[28:32], s.ip.AsSlice())
	copy(reply[32:38], frame[22:28])
	copy(reply[38:42], frame[28:32])
	return reply
}

func isType(frame []byte, ethertype uint16) bool {
	return binary.BigEndian.Uint16(frame[12:14]) == ethertype
}

// test frames have an EtherType of the range for local experiments.
const experimental = 0x88b5

func (s *station) frame(to net.HardwareAddr, payload string) []byte {
	f := append(append([]byte{}, to...), s.mac...)
	f = binary.BigEndian.AppendUint16(f, experimental)
	return append(f, fmt.Sprintf("%-46s", payload)...) // Ethernet's least payload
}

func (s *station) awaits(payload string) []byte {
	s.t.Helper()
	return s.receive(payload, isTest(payload))
}

func isTest(payload string) func(frame []byte) bool {
	return func(f []byte) bool {
		return isType(f, experimental) && strings.TrimSpace(string(f[14:])) == payload
	}
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func (s *station) counters() Counters {
	s.t.Helper()
	c, err := s.port.Counters()
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func TestFramesCross(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	a, b := newStation(t, l, "A", 10), newStation(t, l, "B", 11)
	a.connected(b)
	b.connected(a)

	a.send(a.frame(broadcast, "hello everybody"))
	got := b.awaits("hello everybody")
	if !bytes.Equal(got[6:12], a.mac) {
		t.Errorf("the frame comes from %x, want %x", got[6:12], a.mac)
	}
	for _, name := range []string{"br0", "A", "B"} { // all with a carrier now
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if addrs, err := netlink.AddrList(link, netlink.FAMILY_V6); err != nil || len(addrs) != 0 {
			t.Errorf("%s takes part in IPv6: %v, %v", name, addrs, err)
		}
	}
	before, sentBefore := a.counters(), b.counters().Sent
	const frames = 50
	for i := range frames {
		b.send(b.frame(a.mac, fmt.Sprint("to A ", i)))
		a.awaits(fmt.Sprint("to A ", i))
	}
	after := a.counters()
	if n := after.Received - before.Received; n != frames {
		t.Errorf("A received %d frames, want %d", n, frames)
	}
	if n := after.ReceivedBytes - before.ReceivedBytes; n != frames*60 {
		t.Errorf("A received %d bytes, want %d", n, frames*60)
	}
	if after.Sent != before.Sent {
		t.Errorf("A sent %d frames while it was silent", after.Sent-before.Sent)
	}
	if n := b.counters().Sent - sentBefore; n != frames {
		t.Errorf("B sent %d frames, want %d", n, frames)
	}
}

func TestPortIsHeldByOneMachineAtATime(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	a, b := newStation(t, l, "A", 10), newStation(t, l, "B", 11)
	if _, err := a.port.Open(); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "open port A: a machine still holds it") {
		t.Errorf("error %v", err)
	}
	// What a machine leaves behind must not reach the next one.
	raw, err := a.f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ioctl error
	if err := raw.Control(func(fd uintptr) { ioctl = unix.IoctlSetPointerInt(int(fd), unix.TUNSETVNETHDRSZ, 12) }); err != nil || ioctl != nil {
		t.Fatal(err, ioctl)
	}
	if err := a.f.Close(); err != nil {
		t.Fatal(err)
	}
	a.open()
	a.connected(b)
	b.connected(a)
	if err := a.f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("A"); err != nil {
		t.Errorf("the port went with its machine: %v", err)
	}
}

func TestOpenAfterClose(t *testing.T) {
	ctx := inNamespace(t)
	l, err := New(ctx, Config{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.AddPort("A")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before := links(t)
	if f, err := p.Open(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, %v", f, err)
	}
	if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("links before %v, after %v", before, after)
	}
}

func TestPassedToAProcess(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	a, b := newStation(t, l, "A", 10), newStation(t, l, "B", 11)
	a.connected(b)
	// The way QEMU gets it: as descriptor 3, with every copy here closed.
	cmd := exec.CommandContext(ctx, "sh", "-c", "cat <&3 >/dev/null & cat >&3")
	cmd.ExtraFiles = []*os.File{a.f}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if err := a.f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.port.Open(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the port is free while the process holds it: %v", err)
	}
	if _, err := in.Write(append(make([]byte, virtioHeader), a.frame(broadcast, "from a process")...)); err != nil {
		t.Fatal(err)
	}
	b.awaits("from a process")
	in.Close()
}

func TestProbe(t *testing.T) {
	ctx := inNamespace(t)
	before := links(t)
	if err := Probe(ctx, Config{}); err != nil {
		t.Fatal(err)
	}
	if after := links(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("links before %v, after %v", before, after)
	}
	if err := Probe(ctx, Config{Tun: "/nowhere"}); err == nil {
		t.Error("no error without a tun device")
	}
}

func TestCheck(t *testing.T) {
	ctx := inNamespace(t)
	if err := Check(ctx, ""); err != nil {
		t.Errorf("in a namespace that allows everything: %v", err)
	}
	if err := CheckCapability(); err != nil {
		t.Error(err)
	}
	if err := Check(ctx, "/nowhere"); err == nil || !strings.Contains(err.Error(), "modprobe tun") {
		t.Errorf("error %v", err)
	}
	without(t, unix.CAP_SYS_ADMIN, func() {
		err := CheckNamespaces(ctx)
		var host *HostError
		if !errors.As(err, &host) || !strings.Contains(err.Error(), "no permission to make namespaces") {
			t.Errorf("error %v", err)
		}
	})
	without(t, unix.CAP_NET_ADMIN, func() {
		var host *HostError
		if err := CheckCapability(); !errors.As(err, &host) {
			t.Errorf("error %v", err)
		}
	})
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := CheckNamespaces(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestCheckNamespacesWithNoneLeft(t *testing.T) {
	ctx := inNamespace(t)
	// The limit is that of the test's own user namespace.
	const limit = "/proc/sys/user/max_net_namespaces"
	old, err := os.ReadFile(limit)
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(limit, []byte("0"), 0); err != nil {
		t.Skipf("the limit cannot be set here: %v", err)
	}
	defer os.WriteFile(limit, old, 0)
	err = Check(ctx, "")
	var host *HostError
	if !errors.As(err, &host) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(host.Next, "max_net_namespaces") {
		t.Errorf("error %v", err)
	}
}
