package session

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/flynn/noise"
	"golang.org/x/crypto/chacha20poly1305"
)

// cipherState is Noise's CipherState (revision 34, section 5.1) after the handshake: a key and a counter that is the nonce.
// The library's own makes a nonce on the heap for each record; this one keeps its nonce, so that records cost no garbage.
// There is no rekeying: the contract has none, and the counter outlasts any session.
type cipherState struct {
	aead  cipher.AEAD
	n     uint64
	nonce [chacha20poly1305.NonceSize]byte
}

// maxNonce is the last nonce of a record: Noise keeps 2^64-1 for rekeying.
const maxNonce = math.MaxUint64 - 1

var errNonces = errors.New("session: no nonce is left")

// takeOver goes on where a cipher state of the library is, which must not be used any more.
func takeOver(s *noise.CipherState) (*cipherState, error) {
	key := s.UnsafeKey()
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		return nil, fmt.Errorf("%w: take over a key: %v", ErrHandshake, err)
	}
	return &cipherState{aead: aead, n: s.Nonce()}, nil
}

// seal encrypts plaintext where it is and puts the tag behind it; its memory must have room for that.
func (s *cipherState) seal(plaintext []byte) error {
	if s.n > maxNonce {
		return errNonces
	}
	s.aead.Seal(plaintext[:0], s.next(), plaintext, nil)
	s.n++
	return nil
}

// open decrypts where the ciphertext is. A record that is refused takes no nonce; the session is over anyway.
func (s *cipherState) open(ciphertext []byte) (plaintext []byte, err error) {
	if s.n > maxNonce {
		return nil, errNonces
	}
	plaintext, err = s.aead.Open(ciphertext[:0], s.next(), ciphertext, nil)
	if err != nil {
		return nil, ErrDecrypt
	}
	s.n++
	return plaintext, nil
}

// next gives ChaChaPoly's form of the counter (section 12.3): four bytes of zeros, then little endian.
func (s *cipherState) next() []byte {
	binary.LittleEndian.PutUint64(s.nonce[4:], s.n)
	return s.nonce[:]
}
