package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// keyPair makes the pair of a private key of 32 times b.
func keyPair(tb testing.TB, b byte) KeyPair {
	k, err := NewKeyPair([KeySize]byte(bytes.Repeat([]byte{b}, KeySize)))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func anyone([KeySize]byte, string) error { return nil }

type result struct {
	conn *Conn
	err  error
}

// respond runs Respond beside the test.
func respond(rw io.ReadWriteCloser, cfg Config, authorize func([KeySize]byte, string) error) <-chan result {
	done := make(chan result, 1)
	go func() {
		c, err := Respond(rw, cfg, authorize)
		if err != nil {
			rw.Close() // as a caller must, so that the other side is not left waiting
		}
		done <- result{c, err}
	}()
	return done
}

// pair gives the two ends of an established session, the dialler's first, over a synchronous pipe.
func pair(tb testing.TB) (*Conn, *Conn) {
	a, b := net.Pipe()
	return pairOver(tb, a, b)
}

func pairOver(tb testing.TB, a, b net.Conn) (*Conn, *Conn) {
	tb.Helper()
	tb.Cleanup(func() { a.Close(); b.Close() })
	alice, bob := keyPair(tb, 1), keyPair(tb, 2)
	done := respond(b, Config{Static: bob, DeviceID: "node-b"}, anyone)
	ca, err := Initiate(a, Config{Static: alice, DeviceID: "node-a"}, bob.Public)
	if err != nil {
		tb.Fatal(err)
	}
	r := <-done
	if r.err != nil {
		tb.Fatal(r.err)
	}
	return ca, r.conn
}

// send sends beside the test: a pipe's write waits for its reader.
func send(c *Conn, channel uint32, payload []byte) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.Send(channel, payload) }()
	return done
}

func TestBothSidesLearnEachOther(t *testing.T) {
	a, b := pair(t)
	if a.PeerKey() != keyPair(t, 2).Public || a.PeerID() != "" {
		t.Errorf("dialler's peer is %x %q", a.PeerKey(), a.PeerID())
	}
	if b.PeerKey() != keyPair(t, 1).Public || b.PeerID() != "node-a" {
		t.Errorf("listener's peer is %x %q", b.PeerKey(), b.PeerID())
	}
}

func TestRecords(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{0, 1, 14, 4096, 32775, MaxPayload} {
		payload := bytes.Repeat([]byte{byte(size), 0x5a}, size)[:size]
		for _, way := range []struct{ from, to *Conn }{{a, b}, {b, a}} {
			sent := send(way.from, ChannelPackageFS, payload)
			channel, got, err := way.to.Recv()
			if err != nil || channel != ChannelPackageFS || !bytes.Equal(got, payload) {
				t.Fatalf("%d bytes: got %d bytes on channel %d, %v", size, len(got), channel, err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSendTooLongHarmsNothing(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(ChannelPackageFS, make([]byte, MaxPayload+1)); !errors.Is(err, ErrPayloadLength) {
		t.Fatalf("got %v", err)
	}
	sent := send(a, ChannelControl, AppendPing(nil))
	if channel, got, err := b.Recv(); err != nil || channel != ChannelControl || string(got) != "\x01" {
		t.Errorf("afterwards: %d %x %v", channel, got, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestConcurrentSendsStayWhole(t *testing.T) {
	a, b := pair(t)
	const senders, each = 4, 50
	for s := range senders {
		go func() {
			payload := bytes.Repeat([]byte{byte(s)}, 100+s)
			for range each {
				if a.Send(ChannelPackageFS, payload) != nil {
					return
				}
			}
		}()
	}
	for range senders * each {
		_, got, err := b.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.Repeat(got[:1], 100+int(got[0])); !bytes.Equal(got, want) {
			t.Fatalf("a record is mixed: %x", got)
		}
	}
}

func TestUnknownChannel(t *testing.T) {
	a, b := pair(t)
	sent := send(a, 5, []byte("x"))
	type received struct {
		control Control
		err     error
	}
	answer := make(chan received, 1)
	go func() {
		_, payload, err := a.Recv()
		if err != nil {
			answer <- received{err: err}
			return
		}
		c, err := ParseControl(payload)
		answer <- received{c, err}
	}()
	if _, _, err := b.Recv(); !errors.Is(err, ErrChannel) {
		t.Errorf("got %v", err)
	}
	if _, _, err := b.Recv(); !errors.Is(err, ErrChannel) {
		t.Errorf("asked again: got %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if r := <-answer; r.err != nil || r.control.Kind != CloseSession || r.control.Reason != "unknown channel 5" {
		t.Errorf("the sender was told %+v, %v", r.control, r.err)
	}
}

func TestConfig(t *testing.T) {
	a, _ := net.Pipe()
	defer a.Close()
	for _, id := range []string{"", strings.Repeat("x", 65), "\xff"} {
		if _, err := Initiate(a, Config{Static: keyPair(t, 1), DeviceID: id}, keyPair(t, 2).Public); !errors.Is(err, ErrDeviceID) {
			t.Errorf("id %q: got %v", id, err)
		}
	}
}
