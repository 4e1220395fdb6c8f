package session

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// HashSize is the size of a handshake hash, in bytes.
const HashSize = blake2s.Size

// Keys are the secrets of one session: whoever has them reads all of it. They are made for Config.KeyLog only.
type Keys struct {
	Hash     [HashSize]byte // the handshake hash, which names the session and is no secret
	Dialler  PrivateKey     // with which the dialler's records are encrypted
	Listener PrivateKey     // with which the listener's are
}

// keysLabel begins the line of a session in a key log.
const keysLabel = "DSOFTBUS_SESSION"

// AppendLine appends the line of a key log: a label, the handshake hash, the dialler's key, the listener's, each in hexadecimal, with a space
// between them, and a newline. It is the one way in which these keys are written down.
func (k Keys) AppendLine(dst []byte) []byte {
	return fmt.Appendf(dst, "%s %x %x %x\n", keysLabel, k.Hash, k.Dialler[:], k.Listener[:])
}

// ErrKeys is a line that is none of a key log. Errors never quote the line.
var ErrKeys = errors.New("session: not a line of a key log")

// ParseKeys reads what AppendLine wrote, with or without its end.
func ParseKeys(line string) (Keys, error) {
	fields := strings.Fields(line)
	if len(fields) != 4 || fields[0] != keysLabel {
		return Keys{}, fmt.Errorf("%w: it is not %s and three values", ErrKeys, keysLabel)
	}
	var k Keys
	for i, to := range [][]byte{k.Hash[:], k.Dialler[:], k.Listener[:]} {
		if len(fields[i+1]) != hex.EncodedLen(len(to)) {
			return Keys{}, fmt.Errorf("%w: value %d has not %d bytes", ErrKeys, i+1, len(to))
		}
		if _, err := hex.Decode(to, []byte(fields[i+1])); err != nil {
			return Keys{}, fmt.Errorf("%w: value %d is not hexadecimal", ErrKeys, i+1)
		}
	}
	return k, nil
}

// tellKeys gives the session's keys to whoever was configured to have them. The cipher states are those of the handshake's end.
func (h *handshake) tellKeys() {
	if h.keyLog == nil {
		return
	}
	h.keyLog(Keys{
		Hash:     [HashSize]byte(h.state.ChannelBinding()),
		Dialler:  PrivateKey(h.first.UnsafeKey()),
		Listener: PrivateKey(h.second.UnsafeKey()),
	})
}

// HandshakeHash computes the hash that names a session from what anybody can see: the listener's static public key, and the three messages without
// their length. Messages of a wrong length give a hash that names none.
func HandshakeHash(listener [KeySize]byte, messages [3][]byte) [HashSize]byte {
	return handshakeHash(prologue, listener, messages)
}

func handshakeHash(prologue string, listener [KeySize]byte, messages [3][]byte) [HashSize]byte {
	// Noise (revision 34), sections 5.2 and 5.3: a name longer than the hash is hashed first.
	name := "Noise_XK_" + string(suite.Name())
	h := blake2s.Sum256([]byte(name))
	mix := func(data []byte) { h = blake2s.Sum256(append(h[:], data...)) }
	mix([]byte(prologue))
	mix(listener[:])
	for i, m := range messages {
		// A public key first, in the last message encrypted; then the payload.
		n := KeySize
		if i == 2 {
			n += tagSize
		}
		n = min(n, len(m))
		mix(m[:n])
		mix(m[n:])
	}
	return h
}

// CheckHandshakeLength says whether message number (1 to 3) of a handshake may have n bytes; ErrHandshakeLength when not.
func CheckHandshakeLength(number, n int) error {
	lengths := [3][2]int{{message1Len, message1Len}, {message2Len, message2Len}, {message3MinLen, message3MaxLen}}
	if l := lengths[number-1]; n < l[0] || n > l[1] {
		return fmt.Errorf("%w: message %d of %d bytes", ErrHandshakeLength, number, n)
	}
	return nil
}

// An Opener decrypts the records of one direction of a session that others have, by its key. It sees each of them, in order.
type Opener struct{ state *cipherState }

// NewOpener returns an Opener of a session's first record on.
func NewOpener(key PrivateKey) *Opener {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // of the key's length alone
	}
	return &Opener{&cipherState{aead: aead}}
}

// Open decrypts a record, without its length, and returns its channel and payload. It writes to record. The errors are ErrRecordLength and
// ErrDecrypt.
func (o *Opener) Open(record []byte) (channel uint32, payload []byte, err error) {
	if err := CheckRecordLength(len(record)); err != nil {
		return 0, nil, err
	}
	plaintext, err := o.state.open(record)
	if err != nil {
		return 0, nil, err
	}
	channel, payload = split(plaintext)
	return channel, payload, nil
}

// CheckRecordLength says whether a record may have n bytes, its length not counted; ErrRecordLength when not.
func CheckRecordLength(n int) error {
	if n < minRecord {
		return fmt.Errorf("%w: %d bytes", ErrRecordLength, n)
	}
	return nil
}
