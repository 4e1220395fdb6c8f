package dsoftbusd

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// freeUDPPort gives a port that nobody has.
func freeUDPPort(t *testing.T) uint16 {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// The loopback interface carries multicast from one socket to another like a LAN.
func TestMulticast(t *testing.T) {
	group := netip.AddrPortFrom(netip.MustParseAddr("239.42.0.1"), freeUDPPort(t))
	open := func() *multicast {
		m, err := listenMulticast("lo", group)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	a, b := open(), open()
	for _, m := range []*multicast{a, b} {
		if err := m.Announce([]byte("warm-up")); err != nil {
			t.Skipf("this host's loopback interface carries no multicast: %v", err)
		}
	}
	if err := a.Announce([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b.conn.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 2048)
	for {
		n, from, err := b.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "hello" {
			if !from.Is4() || from.IsUnspecified() {
				t.Errorf("received from %s", from)
			}
			break
		}
	}
	b.Close()
	if _, _, err := b.Receive(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("receiving after the end: %v", err)
	}
}

func TestMulticastWithoutInterface(t *testing.T) {
	m, err := listenMulticast("no-such-nic", netip.AddrPortFrom(netip.MustParseAddr("239.42.0.1"), freeUDPPort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 2 {
		if err := m.Announce([]byte("x")); err == nil {
			t.Error("announced through an interface that is not there")
		}
	}
}

func TestGroupMustBeMulticast(t *testing.T) {
	for _, address := range []string{"10.0.0.1", "ff02::1", "255.255.255.255"} {
		if m, err := listenMulticast("lo", netip.AddrPortFrom(netip.MustParseAddr(address), 37020)); err == nil {
			m.Close()
			t.Errorf("%s was taken", address)
		}
	}
}
