package device

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// DefaultDir is where a node keeps its identity.
const DefaultDir = "/etc/dsoftbus"

const (
	deviceFile  = "device.json"
	pairingFile = "pairing.json"
)

// maxFile bounds what Load reads: thousands of pairings, and not a file that
// somebody filled the disk with.
const maxFile = 1 << 20

// Load reads and checks the identity and the pairing list in dir. Both files
// must be there: a node that trusts nobody says so with an empty list. A
// missing file is fs.ErrNotExist by errors.Is. device.json must not be readable
// by anyone but its owner.
func Load(dir string) (Device, []Pairing, error) {
	d, err := loadDevice(filepath.Join(dir, deviceFile))
	if err != nil {
		return Device{}, nil, err
	}
	pairings, err := loadPairings(filepath.Join(dir, pairingFile), d)
	if err != nil {
		return Device{}, nil, err
	}
	return d, pairings, nil
}

func loadDevice(path string) (Device, error) {
	data, mode, err := read(path)
	if err != nil {
		return Device{}, fmt.Errorf("load device identity: %w", err)
	}
	if mode.Perm()&0o077 != 0 {
		return Device{}, fmt.Errorf("load device identity %s: mode %04o lets others read the private key; chmod 600 it", path, mode.Perm())
	}
	var form deviceJSON
	if err := decode(data, &form); err != nil {
		return Device{}, fmt.Errorf("load device identity %s: %w", path, err)
	}
	d := Device{ID: form.ID}
	if d.Key.Private, err = parseKey("private_key", form.PrivateKey); err != nil {
		return Device{}, fmt.Errorf("load device identity %s: %w", path, err)
	}
	if d.Key.Public, err = parseKey("public_key", form.PublicKey); err != nil {
		return Device{}, fmt.Errorf("load device identity %s: %w", path, err)
	}
	if err := checkDevice(d); err != nil {
		return Device{}, fmt.Errorf("load device identity %s: %w", path, err)
	}
	return d, nil
}

func loadPairings(path string, self Device) ([]Pairing, error) {
	data, _, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load pairing list (a device paired with nobody has the list []): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("load pairing list: %w", err)
	}
	var list []Pairing
	if err := decode(data, &list); err != nil {
		return nil, fmt.Errorf("load pairing list %s: %w", path, err)
	}
	if err := checkPairings(self, list); err != nil {
		return nil, fmt.Errorf("load pairing list %s: %w", path, err)
	}
	return list, nil
}

// read returns the content and mode of a regular file of at most maxFile bytes.
// It never waits on a FIFO in the file's place.
func read(path string) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return data, info.Mode(), nil
}

// Save checks the identity and the pairing list and writes both into dir, which
// it makes (mode 0700) when missing. Each file is written aside, synced and
// renamed, so a reader sees the old one or the new one whole. The identity goes
// last: a first Save cut in between leaves a directory that Load refuses, not
// a device that trusts nobody.
func Save(dir string, d Device, pairings []Pairing) error {
	files, err := Encode(d, pairings)
	if err != nil {
		return fmt.Errorf("save device identity in %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save device identity: %w", err)
	}
	for _, f := range files {
		if err := write(dir, f); err != nil {
			return fmt.Errorf("save device identity in %s: %w", dir, err)
		}
	}
	return syncDir(dir)
}

// Mode is the mode of each file of a device: one of them has its private key.
const Mode fs.FileMode = 0o600

// A File is one of the files that make a device.
type File struct {
	Name    string // within the device's folder
	Content []byte
}

// Encode checks the identity and the pairing list and returns the files that Save
// would write, in that order, for whoever places them in another way.
func Encode(d Device, pairings []Pairing) ([]File, error) {
	if err := checkDevice(d); err != nil {
		return nil, err
	}
	if err := checkPairings(d, pairings); err != nil {
		return nil, fmt.Errorf("pairing list: %w", err)
	}
	if pairings == nil {
		pairings = []Pairing{}
	}
	list, err := encode(pairingFile, pairings)
	if err != nil {
		return nil, err
	}
	identity, err := encode(deviceFile, deviceJSON{
		ID:         d.ID,
		PrivateKey: hex.EncodeToString(d.Key.Private[:]),
		PublicKey:  hex.EncodeToString(d.Key.Public[:]),
	})
	if err != nil {
		return nil, err
	}
	return []File{list, identity}, nil
}

func encode(name string, v any) (File, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) >= maxFile {
		return File{}, fmt.Errorf("%s: %d bytes, at most %d can be loaded again", name, len(data), maxFile-1)
	}
	return File{name, append(data, '\n')}, nil
}

func write(dir string, file File) error {
	// The temporary file lies in dir: a private key never passes through /tmp.
	// The mode is always 0600, whatever the file there had.
	f, err := renameio.NewPendingFile(filepath.Join(dir, file.Name),
		renameio.WithTempDir(dir), renameio.WithStaticPermissions(Mode))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(file.Content); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// syncDir makes the renames themselves survive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
