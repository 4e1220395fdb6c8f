package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/flynn/noise"
)

// unhex is bytes in hexadecimal.
type unhex []byte

func (b *unhex) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// noiseVector is a session as another implementation of Noise has it.
type noiseVector struct {
	Name              string `json:"name"`
	Prologue          unhex  `json:"prologue"`
	DiallerStatic     unhex  `json:"init_static"`
	DiallerEphemeral  unhex  `json:"init_ephemeral"`
	PeerStatic        unhex  `json:"init_remote_static"`
	ListenerStatic    unhex  `json:"resp_static"`
	ListenerEphemeral unhex  `json:"resp_ephemeral"`
	Hash              unhex  `json:"handshake_hash"` // not in every vector
	Messages          []struct {
		Payload    unhex `json:"payload"`
		Ciphertext unhex `json:"ciphertext"`
	} `json:"messages"`
}

func noiseVectors(t *testing.T) []noiseVector {
	text, err := os.ReadFile("../testdata/noise.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Vectors []noiseVector `json:"vectors"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return all.Vectors
}

// vectorSide is one side of a vector's session. A side sends and receives by the state of the handshake, whose messages in
// the vectors have payloads that this package's have not, and afterwards by its cipher states.
type vectorSide struct {
	*handshake
	conn *Conn
}

func newVectorSide(t *testing.T, v noiseVector, initiator bool, static, ephemeral, peer []byte) *vectorSide {
	key, err := NewKeyPair([KeySize]byte(static))
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHandshake(&exchange{in: new(bytes.Reader)}, Config{Static: key, Rand: bytes.NewReader(ephemeral)}, string(v.Prologue), initiator, peer)
	if err != nil {
		t.Fatal(err)
	}
	return &vectorSide{handshake: h}
}

// established takes over the cipher states of the handshake's last message.
func (s *vectorSide) established(t *testing.T, send, recv *noise.CipherState) {
	t.Helper()
	var err error
	if s.conn, err = s.handshake.conn(send, recv, [KeySize]byte{}, ""); err != nil {
		t.Fatal(err)
	}
}

// What other implementations of Noise have published for this suite comes out of this package byte for byte: handshake with
// its prologue, handshake hash, and transport messages with their nonces. The package's own prologue is TestTranscript's.
func TestNoiseVectors(t *testing.T) {
	for _, v := range noiseVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			dialler := newVectorSide(t, v, true, v.DiallerStatic, v.DiallerEphemeral, v.PeerStatic)
			listener := newVectorSide(t, v, false, v.ListenerStatic, v.ListenerEphemeral, nil)
			const handshakeMessages = 3
			if len(v.Messages) < handshakeMessages+2 {
				t.Fatalf("%d messages", len(v.Messages))
			}
			from, to := dialler, listener
			var messages [handshakeMessages][]byte
			for i, m := range v.Messages[:handshakeMessages] {
				sent, first, second, err := from.state.WriteMessage(nil, m.Payload)
				if err != nil || !bytes.Equal(sent, m.Ciphertext) {
					t.Fatalf("message %d is %x, %v, want %x", i, sent, err, m.Ciphertext)
				}
				got, first2, second2, err := to.state.ReadMessage(nil, m.Ciphertext)
				if err != nil || !bytes.Equal(got, m.Payload) {
					t.Fatalf("message %d is read as %x, %v, want %x", i, got, err, m.Payload)
				}
				messages[i] = sent
				if i == handshakeMessages-1 {
					from.established(t, first, second)
					to.established(t, second2, first2)
				}
				from, to = to, from
			}
			for i, m := range v.Messages[handshakeMessages:] {
				sent := append(slices.Clone(m.Payload), make([]byte, tagSize)...)
				if err := from.conn.send.seal(sent[:len(m.Payload)]); err != nil || !bytes.Equal(sent, m.Ciphertext) {
					t.Errorf("transport message %d is %x, %v, want %x", i, sent, err, m.Ciphertext)
				}
				if got, err := to.conn.recv.open(slices.Clone(m.Ciphertext)); err != nil || !bytes.Equal(got, m.Payload) {
					t.Errorf("transport message %d is read as %x, %v, want %x", i, got, err, m.Payload)
				}
				from, to = to, from
			}
			hash := handshakeHash(string(v.Prologue), [KeySize]byte(v.PeerStatic), messages)
			if v.Hash != nil && !bytes.Equal(hash[:], v.Hash) {
				t.Errorf("the handshake hash is %x, want %x", hash, v.Hash)
			}
			if !bytes.Equal(hash[:], listener.state.ChannelBinding()) {
				t.Errorf("the handshake hash is %x, the listener's %x", hash, listener.state.ChannelBinding())
			}
		})
	}
}
