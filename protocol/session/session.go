// Package session owns the encrypted stream between two paired devices: the Noise XK handshake, and after it records
// that each carry one payload on one channel.
//
// It knows no clock, starts no goroutine and opens no connection: it is given one, and deadlines are set on that by
// whoever opened it. Whom to trust is the caller's to say; what the payloads mean is not its business, the control
// channel's three messages excepted.
//
// The handshake is Noise_XK_25519_ChaChaPoly_BLAKE2s (Noise specification, revision 34) with the prologue "dsoftbus/1".
// Each handshake message and each record is its length, u16 big endian, and as many bytes. A record's plaintext is
// the channel, u32 little endian, and the payload.
package session

import (
	"errors"
	"io"
)

// Channels of a session.
const (
	ChannelControl   uint32 = 0 // ping, pong, close: ParseControl
	ChannelPackageFS uint32 = 4 // one PK frame per record
)

// Sizes in bytes.
const (
	// MaxPayload is what a record can carry: 65,535 less the tag and the channel.
	MaxPayload = maxRecord - tagSize - channelSize
	// MaxDeviceID bounds the id which the dialler presents; it has at least one byte.
	MaxDeviceID = 64

	lengthSize  = 2
	maxRecord   = 65535
	tagSize     = 16
	channelSize = 4
	minRecord   = tagSize + channelSize
)

const prologue = "dsoftbus/1"

// Config is what a device brings to each of its sessions.
type Config struct {
	Static   KeyPair
	DeviceID string // 1..MaxDeviceID bytes of UTF-8; presented by the dialler
	// KeyLog is given the keys of each session when its handshake is over: only whoever debugs has one, and nothing of a session's secrets
	// leaves this package without. nil: nobody.
	KeyLog func(Keys) `json:"-"`
	Rand   io.Reader  // source of the ephemeral key; nil means crypto/rand's. Anything else is for tests
}

// Errors of a session, besides those of the connection underneath.
var (
	ErrHandshakeLength = errors.New("session: handshake message of the wrong length")
	ErrHandshake       = errors.New("session: handshake failed")
	ErrDeviceID        = errors.New("session: device id is not 1..64 bytes of UTF-8")
	ErrRecordLength    = errors.New("session: record too short")
	ErrDecrypt         = errors.New("session: record cannot be decrypted")
	ErrChannel         = errors.New("session: record on an unknown channel")
	ErrPayloadLength   = errors.New("session: payload too long for a record")
	ErrClosed          = errors.New("session: closed")
)
