package netbench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/protocol/session"
)

// What a client says first on a connection: three bytes that name the form, and the kind of stream. For a kind that wants
// it the session's handshake follows. Then the client sends asks, and the server answers each with its stream.
const helloSize = 4

// kind is what carries a stream.
type kind byte

const (
	kindTCP        kind = 1
	kindNoise      kind = 2
	kindPlainNoise kind = 3 // over package net's own reads and writes
)

func hello(k kind) []byte { return []byte{'N', 'B', 1, byte(k)} }

func parseHello(b []byte) (kind, error) {
	if len(b) != helloSize || string(b[:3]) != "NB\x01" {
		return 0, errors.New("not a client of netbench")
	}
	k := kind(b[3])
	if k < kindTCP || k > kindPlainNoise {
		return 0, fmt.Errorf("unknown kind of stream %d", k)
	}
	return k, nil
}

// What one connection may cost the server, and one measurement the client.
const (
	// maxBytes bounds the streams of one connection together, without their warm-up.
	maxBytes = 1 << 30
	// maxTime bounds a connection, and with it how long the next one has to wait.
	maxTime = 5 * time.Minute
	// helloTime is how long a client may take to say what it wants.
	helloTime = 5 * time.Second
	// writeSize is how much of a plain stream is written at a time: what a READ carries by default.
	writeSize = 32768
	// warmUpPieces of a stream are not measured.
	warmUpPieces = 64
	// readHeader is what a READ's answer holds beside the data.
	readHeader = 7
	// maxRecord is the largest READ whose answer a session can carry.
	maxRecord = session.MaxPayload - readHeader
)

// ask wants one stream.
type ask struct {
	piece uint32 // bytes of each write or record
	bytes uint64 // of all of them, the last may be shorter
}

const askSize = 12

func (a ask) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, a.piece)
	return binary.BigEndian.AppendUint64(dst, a.bytes)
}

func parseAsk(b []byte) (ask, error) {
	if len(b) != askSize {
		return ask{}, fmt.Errorf("a request of %d bytes", len(b))
	}
	a := ask{piece: binary.BigEndian.Uint32(b), bytes: binary.BigEndian.Uint64(b[4:])}
	if a.piece < 1 || a.piece > maxRecord || a.bytes < 1 || a.bytes > maxBytes {
		return ask{}, fmt.Errorf("a request of %d bytes in pieces of %d", a.bytes, a.piece)
	}
	return a, nil
}

// identity is the device that both sides of a measured session are. Its key is no secret.
func identity() session.Config {
	pair, err := session.NewKeyPair([session.KeySize]byte{'n', 'e', 't', 'b', 'e', 'n', 'c', 'h'})
	if err != nil {
		panic(err) // of constants alone
	}
	return session.Config{Static: pair, DeviceID: "netbench"}
}
