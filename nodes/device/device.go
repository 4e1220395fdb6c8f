package device

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf8"

	"dsoftbus-rig/protocol/session"
)

// ServicePackageFS is the name under which a pairing grants the package
// service.
const ServicePackageFS = "packagefs"

// Bounds of names and lists (contract section 1: they have to fit an announce).
const (
	maxName     = session.MaxDeviceID // bytes of a device id or service name
	maxServices = 16
)

// A Device is what a node is: a stable id of 1 to 64 bytes UTF-8 and one
// X25519 static key pair. Formatting it shows the id and the public key only.
type Device struct {
	ID  string
	Key session.KeyPair
}

// String returns the id and the public key in hex.
func (d Device) String() string { return d.ID + " " + hex.EncodeToString(d.Key.Public[:]) }

// GoString is String: %#v must not reach the private key either.
func (d Device) GoString() string { return "device.Device(" + d.String() + ")" }

// A Pairing is one device this one trusts, and with what.
type Pairing struct {
	ID       string
	Key      [32]byte // X25519 static public key
	Services []string // names of services it may use here, see ServicePackageFS
}

// Allows reports whether the paired device may use the named service.
func (p Pairing) Allows(service string) bool { return slices.Contains(p.Services, service) }

// pairingJSON and deviceJSON are the forms on disk. deviceJSON is apart from
// Device so that no accidental Marshal of a Device writes the private key.
type pairingJSON struct {
	ID        string   `json:"id"`
	PublicKey string   `json:"public_key"`
	Services  []string `json:"services"`
}

type deviceJSON struct {
	ID         string `json:"id"`
	PrivateKey string `json:"private_key"`
	PublicKey  string `json:"public_key"`
}

// MarshalJSON gives the form pairing.json has.
func (p Pairing) MarshalJSON() ([]byte, error) {
	services := p.Services
	if services == nil {
		services = []string{}
	}
	return json.Marshal(pairingJSON{ID: p.ID, PublicKey: hex.EncodeToString(p.Key[:]), Services: services})
}

// UnmarshalJSON reads the form pairing.json has, strictly, and checks the key's
// form. Ids and services are checked with the whole list.
func (p *Pairing) UnmarshalJSON(data []byte) error {
	var form pairingJSON
	if err := decode(data, &form); err != nil {
		return err
	}
	key, err := parseKey("public_key", form.PublicKey)
	if err != nil {
		return err
	}
	*p = Pairing{ID: form.ID, Key: key, Services: form.Services}
	return nil
}

// decode is strict: an unknown field is more likely a misspelt one than a
// message from the future, and a second value is somebody's bad merge.
func decode(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		if err == io.EOF {
			return errors.New("file is empty")
		}
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("bytes after the JSON value")
	}
	return nil
}

// parseKey never quotes what it was given: it may be a private key.
func parseKey(field, text string) (key [32]byte, err error) {
	if len(text) != hex.EncodedLen(len(key)) {
		return key, fmt.Errorf("%s has %d characters, want %d hex digits", field, len(text), hex.EncodedLen(len(key)))
	}
	if _, err := hex.Decode(key[:], []byte(text)); err != nil {
		return [32]byte{}, fmt.Errorf("%s holds something else than hex digits", field)
	}
	return key, nil
}

func checkDevice(d Device) error {
	if err := checkName("id", d.ID); err != nil {
		return err
	}
	pair, err := session.NewKeyPair(d.Key.Private)
	if err != nil {
		return errors.New("private_key is not an X25519 key")
	}
	if pair.Public != d.Key.Public {
		return errors.New("public_key does not belong to private_key")
	}
	return nil
}

func checkPairings(self Device, list []Pairing) error {
	ids := map[string]int{self.ID: -1}
	keys := map[[32]byte]int{self.Key.Public: -1}
	for i, p := range list {
		if err := checkPairing(p); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if first, dup := ids[p.ID]; dup {
			return fmt.Errorf("entry %d: id %q is %s", i, p.ID, owner(first))
		}
		if first, dup := keys[p.Key]; dup {
			return fmt.Errorf("entry %d (%s): public_key is %s", i, p.ID, owner(first))
		}
		ids[p.ID], keys[p.Key] = i, i
	}
	return nil
}

func owner(entry int) string {
	if entry < 0 {
		return "this device's own"
	}
	return fmt.Sprintf("that of entry %d already", entry)
}

func checkPairing(p Pairing) error {
	if err := checkName("id", p.ID); err != nil {
		return err
	}
	if p.Key == ([32]byte{}) {
		return fmt.Errorf("%s: public_key is all zeros", p.ID)
	}
	if len(p.Services) > maxServices {
		return fmt.Errorf("%s: %d services, at most %d", p.ID, len(p.Services), maxServices)
	}
	for i, service := range p.Services {
		if err := checkName("service name", service); err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
		if slices.Contains(p.Services[:i], service) {
			return fmt.Errorf("%s: service %q is listed twice", p.ID, service)
		}
	}
	return nil
}

// checkName adds one rule to the contract's: no control characters. Ids and
// services of trusted devices are printed in markers, one line each, and a
// line feed in one would print a second marker.
func checkName(field, name string) error {
	switch n := len(name); {
	case n < 1 || n > maxName:
		return fmt.Errorf("%s has %d bytes, want 1 to %d", field, n, maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%s %q is not UTF-8", field, name)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s %q holds a control character", field, name)
		}
	}
	return nil
}
