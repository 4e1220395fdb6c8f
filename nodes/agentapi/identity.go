package agentapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"
)

// An Identity makes a machine a node. Until it has one every machine is the same,
// which is what lets one saved machine serve as every node.
type Identity struct {
	Hostname string
	MAC      net.HardwareAddr // of the only network card; 6 bytes
	Address  netip.Prefix     // IPv4: 10.42.0.10/24
	Clock    time.Time        // the wall clock to set, to the nanosecond
	Entropy  []byte           // credited to the kernel before any key is made; at least 32 bytes
	Files    []File           // what makes the machine this node: its keys and pairings, its fixtures
}

// A File is one to be made in the machine, with the folders above it.
type File struct {
	Path    string      // "/etc/dsoftbus/device.json"
	Mode    fs.FileMode // permission bits
	Content []byte
}

// The form of an Identity has the clock as i64 nanoseconds since 1970, the MAC's 6
// and the address's 4 bytes and its prefix length as u8, then host name and entropy,
// the number of files as u32, and for each its path, its mode as u32, its content.
// Integers are little endian; strings and bytes have their length before them, as
// u32. Under emulation taking JSON apart costs a clone as much as setting the clock,
// the name and the address together.

// MarshalBinary encodes an identity. Its errors name what has no place in the form.
func (id Identity) MarshalBinary() ([]byte, error) {
	if len(id.MAC) != 6 {
		return nil, fmt.Errorf("encode identity: a MAC of %d bytes", len(id.MAC))
	}
	if !id.Address.Addr().Is4() || !id.Address.IsValid() {
		return nil, fmt.Errorf("encode identity: %v is no IPv4 address with a prefix", id.Address)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(id.Clock.UnixNano()))
	b = append(b, id.MAC...)
	ip := id.Address.Addr().As4()
	b = append(b, ip[:]...)
	b = append(b, byte(id.Address.Bits()))
	b = appendBytes(b, []byte(id.Hostname))
	b = appendBytes(b, id.Entropy)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(id.Files)))
	for _, f := range id.Files {
		b = appendBytes(b, []byte(f.Path))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Mode.Perm()))
		b = appendBytes(b, f.Content)
	}
	return b, nil
}

func appendBytes(b, s []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

var errIdentity = errors.New("decode identity: it is cut off or has something behind it")

// UnmarshalBinary decodes what MarshalBinary made. The identity's slices share
// data's memory.
func (id *Identity) UnmarshalBinary(data []byte) error {
	r := reader{rest: data}
	id.Clock = time.Unix(0, int64(binary.LittleEndian.Uint64(r.take(8))))
	id.MAC = r.take(6)
	ip := netip.AddrFrom4([4]byte(r.take(4)))
	id.Address = netip.PrefixFrom(ip, int(r.take(1)[0]))
	id.Hostname = string(r.bytes())
	id.Entropy = r.bytes()
	id.Files = nil
	for n := r.u32(); n > 0 && !r.bad; n-- {
		f := File{Path: string(r.bytes()), Mode: fs.FileMode(r.u32()).Perm()}
		f.Content = r.bytes()
		id.Files = append(id.Files, f)
	}
	if r.bad || len(r.rest) > 0 || !id.Address.IsValid() {
		return errIdentity
	}
	return nil
}

// A reader takes a form apart. What is not there reads as zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		var none [8]byte
		return none[:min(n, len(none))]
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }

func (r *reader) bytes() []byte {
	n := int64(r.u32())
	if n > int64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	return r.take(int(n))
}

// HandoverFile is the fw_cfg file in which a machine that is to be saved, and later
// each of its clones, finds a Handover.
const HandoverFile = "opt/dsoftbus-rig/handover"

// A Handover begins with HandoverWait in a machine that is to be saved: its agent
// goes on looking, and in a clone that looks again what it finds is HandoverGo, the
// length of the rest as u32 little endian, and an Identity in its binary form.
//
// So a clone wakes up in the middle of its agent's work, and neither its kernel
// nor its agent has to be told that somebody is there.
const (
	HandoverWait = 'w'
	HandoverGo   = 'g'
)

// MaxHandover bounds an identity's form, in bytes.
const MaxHandover = 1 << 20

// Handover returns what a clone finds.
func Handover(id Identity) ([]byte, error) {
	data, err := id.MarshalBinary()
	if err != nil {
		return nil, err
	}
	if len(data) > MaxHandover {
		return nil, fmt.Errorf("encode identity: %d bytes; the most is %d", len(data), MaxHandover)
	}
	return append(binary.LittleEndian.AppendUint32([]byte{HandoverGo}, uint32(len(data))), data...), nil
}
