package session

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// KeySize is the size of X25519 keys, in bytes.
const KeySize = 32

// PrivateKey is an X25519 private key. However it is formatted or marshalled it shows as "[private key]"; to get at its
// bytes one has to index or slice it.
type PrivateKey [KeySize]byte

const redacted = "[private key]"

// Format implements fmt.Formatter for every verb.
func (PrivateKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (PrivateKey) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, and so covers JSON.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText refuses: what MarshalText writes is no key. A key that is to be kept is written and read by its owner,
// byte by byte.
func (*PrivateKey) UnmarshalText([]byte) error {
	return errors.New("a private key cannot be read from its redacted form")
}

// KeyPair is a device's X25519 static key pair.
type KeyPair struct {
	Private PrivateKey
	Public  [KeySize]byte
}

// GenerateKeyPair makes a key pair from 32 bytes of random; nil means crypto/rand's.
func GenerateKeyPair(random io.Reader) (KeyPair, error) {
	if random == nil {
		random = rand.Reader
	}
	var private [KeySize]byte
	if _, err := io.ReadFull(random, private[:]); err != nil {
		return KeyPair{}, fmt.Errorf("generate key pair: %w", err)
	}
	return NewKeyPair(private)
}

// NewKeyPair computes the public key that belongs to a private one.
func NewKeyPair(private [KeySize]byte) (KeyPair, error) {
	public, err := noise.DH25519.DH(private[:], basePoint[:])
	if err != nil {
		return KeyPair{}, fmt.Errorf("compute public key: %w", err)
	}
	return KeyPair{Private: private, Public: [KeySize]byte(public)}, nil
}

// basePoint is that of Curve25519 (RFC 7748, section 4.1).
var basePoint = [KeySize]byte{9}

// String shows the public key in hexadecimal.
func (k KeyPair) String() string { return fmt.Sprintf("{public %x}", k.Public) }

// MarshalJSON shows the public key in hexadecimal.
func (k KeyPair) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"public":"%x"}`, k.Public), nil
}

func (k KeyPair) noise() noise.DHKey {
	return noise.DHKey{Private: k.Private[:], Public: k.Public[:]}
}
