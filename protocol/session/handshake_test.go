package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/flynn/noise"
)

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.written.Write(p)
	return r.Conn.Write(p)
}

var (
	ephemeralA = bytes.Repeat([]byte{0xaa}, KeySize)
	ephemeralB = bytes.Repeat([]byte{0xbb}, KeySize)
)

// libraryState is the library's own state machine with the same keys, set up independently of this package.
func libraryState(t testing.TB, initiator bool, static KeyPair, ephemeral, peer []byte) *noise.HandshakeState {
	s, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s),
		Random:        bytes.NewReader(ephemeral),
		Pattern:       noise.HandshakeXK,
		Initiator:     initiator,
		Prologue:      []byte("dsoftbus/1"),
		StaticKeypair: noise.DHKey{Private: static.Private[:], Public: static.Public[:]},
		PeerStatic:    peer,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// The whole transcript, handshake and first records of both directions, equals byte for byte what the library's state
// machine gives for the same keys.
func TestTranscript(t *testing.T) {
	alice, bob := keyPair(t, 1), keyPair(t, 2)

	i := libraryState(t, true, alice, ephemeralA, bob.Public[:])
	r := libraryState(t, false, bob, ephemeralB, nil)
	var wantA, wantB []byte // what the dialler and the listener write
	message1, _, _, err := i.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.ReadMessage(nil, message1); err != nil {
		t.Fatal(err)
	}
	message2, _, _, err := r.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := i.ReadMessage(nil, message2); err != nil {
		t.Fatal(err)
	}
	message3, toB, toA, err := i.WriteMessage(nil, []byte("node-a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.ReadMessage(nil, message3); err != nil {
		t.Fatal(err)
	}
	record := func(c *noise.CipherState, plaintext string) []byte {
		b, err := c.Encrypt(nil, nil, []byte(plaintext))
		if err != nil {
			t.Fatal(err)
		}
		return framed(b)
	}
	wantA = append(append(framed(message1), framed(message3)...), record(toB, "\x04\x00\x00\x00request")...)
	wantA = append(wantA, record(toB, "\x00\x00\x00\x00\x01")...)
	wantB = append(framed(message2), record(toA, "\x04\x00\x00\x00response")...)

	near, far := net.Pipe()
	a, b := &recorder{Conn: near}, &recorder{Conn: far}
	done := respond(b, Config{Static: bob, Rand: bytes.NewReader(ephemeralB)}, anyone)
	ca, err := Initiate(a, Config{Static: alice, DeviceID: "node-a", Rand: bytes.NewReader(ephemeralA)}, bob.Public)
	if err != nil {
		t.Fatal(err)
	}
	listener := <-done
	if listener.err != nil {
		t.Fatal(listener.err)
	}
	cb := listener.conn
	for _, m := range []struct {
		from, to *Conn
		channel  uint32
		payload  string
	}{
		{ca, cb, ChannelPackageFS, "request"},
		{ca, cb, ChannelControl, "\x01"},
		{cb, ca, ChannelPackageFS, "response"},
	} {
		sent := send(m.from, m.channel, []byte(m.payload))
		if channel, payload, err := m.to.Recv(); err != nil || channel != m.channel || string(payload) != m.payload {
			t.Fatalf("got channel %d, %q, %v", channel, payload, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.written.Bytes(), wantA) {
		t.Errorf("dialler wrote\n%x, want\n%x", a.written.Bytes(), wantA)
	}
	if !bytes.Equal(b.written.Bytes(), wantB) {
		t.Errorf("listener wrote\n%x, want\n%x", b.written.Bytes(), wantB)
	}
}

func TestEphemeralsAreFresh(t *testing.T) {
	first := func() string {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			Initiate(near, Config{Static: keyPair(t, 1), DeviceID: "node-a"}, keyPair(t, 2).Public)
		}()
		message := make([]byte, lengthSize+message1Len)
		if _, err := io.ReadFull(far, message); err != nil {
			t.Fatal(err)
		}
		return string(message)
	}
	if one, two := first(), first(); one == two {
		t.Error("two handshakes began with the same message")
	}
}

func TestRefusedByAuthorize(t *testing.T) {
	refusal := errors.New("not paired")
	a, b := net.Pipe()
	defer a.Close()
	var static [KeySize]byte
	var id string
	done := respond(b, Config{Static: keyPair(t, 2)}, func(s [KeySize]byte, i string) error {
		static, id = s, i
		return refusal
	})
	c, err := Initiate(a, Config{Static: keyPair(t, 1), DeviceID: "node-a"}, keyPair(t, 2).Public)
	if err != nil {
		t.Fatal(err)
	}
	if r := <-done; !errors.Is(r.err, refusal) || r.conn != nil {
		t.Errorf("listener got %v, %v", r.conn, r.err)
	}
	if static != keyPair(t, 1).Public || id != "node-a" {
		t.Errorf("asked about %x %q", static, id)
	}
	if _, _, err := c.Recv(); err != io.EOF {
		t.Errorf("dialler received %v, want the end", err)
	}
}

func TestWrongKeyOfListener(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	done := respond(b, Config{Static: keyPair(t, 2)}, func([KeySize]byte, string) error {
		t.Error("authorize was asked")
		return nil
	})
	if _, err := Initiate(a, Config{Static: keyPair(t, 1), DeviceID: "node-a"}, keyPair(t, 3).Public); err == nil {
		t.Error("the dialler took the wrong listener for its peer")
	}
	if r := <-done; !errors.Is(r.err, ErrHandshake) {
		t.Errorf("listener got %v", r.err)
	}
}

// exchange plays a fixed peer: what it "sends" is read from in, what it is sent goes to out.
type exchange struct {
	in  io.Reader
	out bytes.Buffer
}

func (e *exchange) Read(p []byte) (int, error)  { return e.in.Read(p) }
func (e *exchange) Write(p []byte) (int, error) { return e.out.Write(p) }
func (e *exchange) Close() error                { return nil }

// diallerMessages gives what a dialler writes with any payload in message 3, to a listener whose ephemeral is ephemeralB.
func diallerMessages(tb testing.TB, payload []byte) []byte {
	alice, bob := keyPair(tb, 1), keyPair(tb, 2)
	i := libraryState(tb, true, alice, ephemeralA, bob.Public[:])
	r := libraryState(tb, false, bob, ephemeralB, nil)
	message1, _, _, err := i.WriteMessage(nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, _, _, err := r.ReadMessage(nil, message1); err != nil {
		tb.Fatal(err)
	}
	message2, _, _, err := r.WriteMessage(nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, _, _, err := i.ReadMessage(nil, message2); err != nil {
		tb.Fatal(err)
	}
	message3, _, _, err := i.WriteMessage(nil, payload)
	if err != nil {
		tb.Fatal(err)
	}
	return append(framed(message1), framed(message3)...)
}

func respondTo(tb testing.TB, wire []byte) (*Conn, *exchange, error) {
	e := &exchange{in: bytes.NewReader(wire)}
	c, err := Respond(e, Config{Static: keyPair(tb, 2), Rand: bytes.NewReader(ephemeralB)}, anyone)
	return c, e, err
}

func TestRespondToMalformedHandshakes(t *testing.T) {
	good := diallerMessages(t, []byte("node-a"))
	const end1 = lengthSize + message1Len
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], to)
		return b
	}
	zeroKey := change(lengthSize, make([]byte, KeySize)...)
	tests := []struct {
		name string
		wire []byte
		want error
		sent int // bytes answered: none before message 1 has proved that the dialler knows our key
	}{
		{"nothing", nil, io.EOF, 0},
		{"half a length", good[:1], io.ErrUnexpectedEOF, 0},
		{"half of message 1", good[:20], io.ErrUnexpectedEOF, 0},
		{"message 1 too short", change(1, 47), ErrHandshakeLength, 0},
		{"message 1 too long", change(1, 49), ErrHandshakeLength, 0},
		{"message 1 of 65,535 bytes", change(0, 0xff, 0xff), ErrHandshakeLength, 0},
		{"a PK frame", []byte("PK\x01\x01\x07\x00pkg:/ab"), ErrHandshakeLength, 0},
		{"message 1 forged", change(end1-1, ^good[end1-1]), ErrHandshake, 0},
		{"ephemeral of order 1", zeroKey, ErrHandshake, 0},
		{"no message 3", good[:end1], io.ErrUnexpectedEOF, end1},
		{"half of message 3", good[:end1+30], io.ErrUnexpectedEOF, end1},
		{"message 3 too short", change(end1+1, message3MinLen-1), ErrHandshakeLength, end1},
		{"message 3 too long", change(end1+1, message3MaxLen+1), ErrHandshakeLength, end1},
		{"message 3 forged", change(len(good)-1, ^good[len(good)-1]), ErrHandshake, end1},
		{"static key forged", change(end1+lengthSize, ^good[end1+lengthSize]), ErrHandshake, end1},
		{"no device id", diallerMessages(t, nil), ErrHandshakeLength, end1},
		{"device id of 65 bytes", diallerMessages(t, []byte(strings.Repeat("x", 65))), ErrHandshakeLength, end1},
		{"device id not UTF-8", diallerMessages(t, []byte("\xff")), ErrDeviceID, end1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, e, err := respondTo(t, tt.wire)
			if !errors.Is(err, tt.want) || c != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if e.out.Len() != tt.sent {
				t.Errorf("answered %d bytes, want %d", e.out.Len(), tt.sent)
			}
		})
	}
	for _, id := range []string{"a", "node-a", strings.Repeat("ü", 32)} {
		c, _, err := respondTo(t, diallerMessages(t, []byte(id)))
		if err != nil || c.PeerID() != id {
			t.Errorf("device id %q: %v", id, err)
		}
	}
}

func TestInitiateWithMalformedAnswers(t *testing.T) {
	tests := []struct {
		name string
		wire []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"too short", append([]byte{0, 47}, make([]byte, 47)...), ErrHandshakeLength},
		{"too long", append([]byte{0, 49}, make([]byte, 49)...), ErrHandshakeLength},
		{"cut", append([]byte{0, 48}, make([]byte, 47)...), io.ErrUnexpectedEOF},
		{"zeros", append([]byte{0, 48}, make([]byte, 48)...), ErrHandshake},
		{"forged", append([]byte{0, 48}, bytes.Repeat([]byte{9}, 48)...), ErrHandshake},
	}
	for _, tt := range tests {
		e := &exchange{in: bytes.NewReader(tt.wire)}
		_, err := Initiate(e, Config{Static: keyPair(t, 1), DeviceID: "node-a"}, keyPair(t, 2).Public)
		if tt.want == io.EOF {
			tt.want = io.ErrUnexpectedEOF // the handshake had begun
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if e.out.Len() != lengthSize+message1Len {
			t.Errorf("%s: wrote %d bytes, want message 1 and nothing after it", tt.name, e.out.Len())
		}
	}
}

func FuzzRespond(f *testing.F) {
	f.Add(diallerMessages(f, []byte("node-a")))
	f.Add([]byte{0, 48})
	f.Fuzz(func(t *testing.T, wire []byte) {
		c, _, err := respondTo(t, wire)
		if (c == nil) == (err == nil) {
			t.Errorf("%v, %v", c, err)
		}
		if c != nil && c.PeerKey() != keyPair(t, 1).Public {
			t.Errorf("a handshake was forged: %x", wire)
		}
	})
}

func FuzzInitiate(f *testing.F) {
	f.Add(append([]byte{0, 48}, make([]byte, 48)...))
	f.Fuzz(func(t *testing.T, wire []byte) {
		e := &exchange{in: bytes.NewReader(wire)}
		if _, err := Initiate(e, Config{Static: keyPair(t, 1), DeviceID: "node-a"}, keyPair(t, 2).Public); err == nil {
			t.Errorf("a handshake was forged: %x", wire)
		}
	})
}
