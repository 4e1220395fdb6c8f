// Package nxsb owns the bytes of the NXSB announce, the datagram by which a device makes itself known on the LAN.
//
// It turns one datagram into a value and back. It sends and receives nothing, and whether an announce is to be believed
// is not its business: every field of one can be forged.
//
// The datagram (integers big endian, 42..1145 bytes):
//
//	0      magic "NXSB"
//	4      version 1
//	5      d, length of the device id, 1..64
//	6      device id, UTF-8
//	6+d    TCP port of sessions, u16
//	8+d    X25519 static public key, 32 bytes
//	40+d   number of services, 0..16
//	41+d   per service: length 1..64, name, UTF-8
package nxsb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Bounds of an announce.
const (
	MaxName     = 64   // bytes of a device id or a service name; none is empty
	MaxServices = 16   // services of one announce
	KeySize     = 32   // bytes of a public key
	MinSize     = 42   // bytes of the smallest announce
	MaxSize     = 1145 // bytes of the largest; what follows the last service is not counted
)

const (
	magic   = "NXSB"
	version = 1
)

// Announce is what a device says about itself.
type Announce struct {
	DeviceID string        // UTF-8, 1..MaxName bytes
	Port     uint16        // TCP port of its sessions; 0 decodes, but is never dialled
	Key      [KeySize]byte // X25519 static public key
	Services []string      // at most MaxServices names, UTF-8, 1..MaxName bytes each
}

// What can be wrong with an announce. Parse checks in the order of the bytes and reports the first.
var (
	ErrTruncated         = errors.New("nxsb: truncated")
	ErrMagic             = errors.New("nxsb: bad magic")
	ErrVersion           = errors.New("nxsb: unsupported version")
	ErrDeviceIDLength    = errors.New("nxsb: device id length")
	ErrUTF8              = errors.New("nxsb: not UTF-8")
	ErrServiceCount      = errors.New("nxsb: service count")
	ErrServiceNameLength = errors.New("nxsb: service name length")
)

// Append appends the announce's datagram to dst. An announce which Parse would refuse gives Parse's error, and dst
// unchanged.
func Append(dst []byte, a Announce) ([]byte, error) {
	if err := check(a); err != nil {
		return dst, err
	}
	dst = append(dst, magic...)
	dst = append(dst, version, byte(len(a.DeviceID)))
	dst = append(dst, a.DeviceID...)
	dst = binary.BigEndian.AppendUint16(dst, a.Port)
	dst = append(dst, a.Key[:]...)
	dst = append(dst, byte(len(a.Services)))
	for _, s := range a.Services {
		dst = append(dst, byte(len(s)))
		dst = append(dst, s...)
	}
	return dst, nil
}

func check(a Announce) error {
	if len(a.DeviceID) < 1 || len(a.DeviceID) > MaxName {
		return fmt.Errorf("%w: %d", ErrDeviceIDLength, len(a.DeviceID))
	}
	if !utf8.ValidString(a.DeviceID) {
		return fmt.Errorf("%w: device id", ErrUTF8)
	}
	if len(a.Services) > MaxServices {
		return fmt.Errorf("%w: %d", ErrServiceCount, len(a.Services))
	}
	for _, s := range a.Services {
		if len(s) < 1 || len(s) > MaxName {
			return fmt.Errorf("%w: %d", ErrServiceNameLength, len(s))
		}
		if !utf8.ValidString(s) {
			return fmt.Errorf("%w: service name", ErrUTF8)
		}
	}
	return nil
}

// Parse decodes one datagram. It keeps no reference to it, and ignores whatever follows the last service.
func Parse(datagram []byte) (Announce, error) {
	r := reader{rest: datagram}
	if m := r.take(len(magic), "magic"); r.err == nil && string(m) != magic {
		r.fail(fmt.Errorf("%w: % x", ErrMagic, m))
	}
	if v := r.byte("version"); r.err == nil && v != version {
		r.fail(fmt.Errorf("%w: %d", ErrVersion, v))
	}
	var a Announce
	a.DeviceID = r.name("device id", ErrDeviceIDLength)
	if p := r.take(2, "port"); r.err == nil {
		a.Port = binary.BigEndian.Uint16(p)
	}
	copy(a.Key[:], r.take(KeySize, "key"))
	count := int(r.byte("service count"))
	if r.err == nil && count > MaxServices {
		r.fail(fmt.Errorf("%w: %d", ErrServiceCount, count))
	}
	if r.err == nil && count > 0 {
		a.Services = make([]string, 0, count)
	}
	for i := 0; i < count && r.err == nil; i++ {
		a.Services = append(a.Services, r.name("service name", ErrServiceNameLength))
	}
	if r.err != nil {
		return Announce{}, r.err
	}
	return a, nil
}

// Equal says whether two announces say the same, the order of the services included.
func (a Announce) Equal(b Announce) bool {
	return a.DeviceID == b.DeviceID && a.Port == b.Port && a.Key == b.Key && slices.Equal(a.Services, b.Services)
}

// reader takes fields off the front of a datagram. After its first error it gives nothing more.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(err error) {
	r.err = err
	r.rest = nil
}

func (r *reader) take(n int, field string) []byte {
	if r.err != nil {
		return nil
	}
	if len(r.rest) < n {
		r.fail(fmt.Errorf("%w: %s", ErrTruncated, field))
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte(field string) byte {
	b := r.take(1, field)
	if r.err != nil {
		return 0
	}
	return b[0]
}

func (r *reader) name(field string, badLength error) string {
	n := int(r.byte(field))
	if r.err == nil && (n < 1 || n > MaxName) {
		r.fail(fmt.Errorf("%w: %d", badLength, n))
	}
	b := r.take(n, field)
	if r.err == nil && !utf8.Valid(b) {
		r.fail(fmt.Errorf("%w: %s", ErrUTF8, field))
	}
	return string(b)
}
