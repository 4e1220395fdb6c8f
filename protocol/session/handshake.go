package session

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/flynn/noise"
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)

// Sizes of the three messages of XK: e; e; s and the payload, which is the device id.
const (
	message1Len    = KeySize + tagSize
	message2Len    = KeySize + tagSize
	message3MinLen = KeySize + tagSize + 1 + tagSize
	message3MaxLen = KeySize + tagSize + MaxDeviceID + tagSize
)

// Initiate does the dialler's side of the handshake with the device whose public key is peer. When it returns, the peer
// has proved that it holds that key; whether the peer accepts this device shows with the peer's first record.
//
// On an error rw is left to the caller to close; otherwise it belongs to the Conn.
func Initiate(rw io.ReadWriteCloser, cfg Config, peer [KeySize]byte) (*Conn, error) {
	if err := checkDeviceID([]byte(cfg.DeviceID)); err != nil {
		return nil, err
	}
	h, err := newHandshake(rw, cfg, prologue, true, peer[:])
	if err != nil {
		return nil, err
	}
	if err := h.write(nil); err != nil {
		return nil, err
	}
	if _, err := h.read(); err != nil {
		return nil, err
	}
	if err := h.write([]byte(cfg.DeviceID)); err != nil {
		return nil, err
	}
	return h.conn(h.first, h.second, peer, "")
}

// Respond does the listener's side of the handshake. authorize is called once the dialler has proved that it holds the
// key static, with the device id it presented (1..64 bytes of UTF-8, otherwise unchecked); its error ends the handshake
// and is wrapped in Respond's.
//
// On an error rw is left to the caller to close; otherwise it belongs to the Conn.
func Respond(rw io.ReadWriteCloser, cfg Config, authorize func(static [KeySize]byte, deviceID string) error) (*Conn, error) {
	h, err := newHandshake(rw, cfg, prologue, false, nil)
	if err != nil {
		return nil, err
	}
	if _, err := h.read(); err != nil {
		return nil, err
	}
	if err := h.write(nil); err != nil {
		return nil, err
	}
	payload, err := h.read()
	if err != nil {
		return nil, err
	}
	if err := checkDeviceID(payload); err != nil {
		return nil, err
	}
	static, id := [KeySize]byte(h.state.PeerStatic()), string(payload)
	if err := authorize(static, id); err != nil {
		return nil, fmt.Errorf("session: peer refused: %w", err)
	}
	return h.conn(h.second, h.first, static, id)
}

func checkDeviceID(id []byte) error {
	if len(id) < 1 || len(id) > MaxDeviceID || !utf8.Valid(id) {
		return ErrDeviceID
	}
	return nil
}

type handshake struct {
	state  *noise.HandshakeState
	rw     io.ReadWriteCloser
	reader *bufio.Reader
	buf    []byte
	keyLog func(Keys)
	// The initiator sends with the first cipher state, the responder with the second. Set by the last message.
	first, second *noise.CipherState
}

// newHandshake takes the prologue from its caller, so that it can be held to the test vectors of others.
func newHandshake(rw io.ReadWriteCloser, cfg Config, prologue string, initiator bool, peer []byte) (*handshake, error) {
	random := cfg.Rand
	if random == nil {
		random = rand.Reader
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   suite,
		Random:        random,
		Pattern:       noise.HandshakeXK,
		Initiator:     initiator,
		Prologue:      []byte(prologue),
		StaticKeypair: cfg.Static.noise(),
		PeerStatic:    peer,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrHandshake, err)
	}
	return &handshake{
		state: state,
		rw:    rw,
		// Room for the longest message and no more: whoever connects costs this much.
		reader: bufio.NewReaderSize(rw, lengthSize+message3MaxLen),
		buf:    make([]byte, 0, lengthSize+message3MaxLen),
		keyLog: cfg.KeyLog,
	}, nil
}

func (h *handshake) write(payload []byte) error {
	message, first, second, err := h.state.WriteMessage(append(h.buf[:0], 0, 0), payload)
	if err != nil {
		return fmt.Errorf("%w: message %d: %v", ErrHandshake, h.state.MessageIndex()+1, err)
	}
	binary.BigEndian.PutUint16(message, uint16(len(message)-lengthSize))
	if _, err := h.rw.Write(message); err != nil {
		return fmt.Errorf("session: write handshake message %d: %w", h.state.MessageIndex(), err)
	}
	h.first, h.second = first, second
	return nil
}

// read gives the payload of the next message. It is valid until the next call of read or write.
func (h *handshake) read() ([]byte, error) {
	number := h.state.MessageIndex() + 1
	header, err := h.reader.Peek(lengthSize)
	if err != nil {
		return nil, fmt.Errorf("session: read handshake message %d: %w", number, unexpected(err, len(header) > 0 || number > 1))
	}
	n := int(binary.BigEndian.Uint16(header))
	if err := CheckHandshakeLength(number, n); err != nil {
		return nil, err
	}
	message, err := h.reader.Peek(lengthSize + n)
	if err != nil {
		return nil, fmt.Errorf("session: read handshake message %d: %w", number, unexpected(err, true))
	}
	payload, first, second, err := h.state.ReadMessage(h.buf[:0], message[lengthSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: message %d: %v", ErrHandshake, number, err)
	}
	h.reader.Discard(lengthSize + n)
	h.first, h.second = first, second
	return payload, nil
}

// unexpected turns the end of the stream into io.ErrUnexpectedEOF where something had begun.
func unexpected(err error, begun bool) error {
	if begun && err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// conn makes the session. What came behind the last message is the first of its records.
func (h *handshake) conn(send, recv *noise.CipherState, peer [KeySize]byte, id string) (*Conn, error) {
	c := &Conn{rw: h.rw, peerKey: peer, peerID: id}
	h.tellKeys()
	var err error
	if c.send, err = takeOver(send); err != nil {
		return nil, err
	}
	if c.recv, err = takeOver(recv); err != nil {
		return nil, err
	}
	rest, _ := h.reader.Peek(h.reader.Buffered())
	c.in = newInbox(h.rw, rest)
	return c, nil
}
