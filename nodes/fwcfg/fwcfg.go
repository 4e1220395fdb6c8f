// Package fwcfg reads files of QEMU's firmware configuration device (fw_cfg), which
// the host gives a machine on QEMU's command line, through the device's I/O ports
// (QEMU, docs/specs/fw_cfg.rst). No driver takes part, so what the host gave a
// machine can be read before anything else works, and again at any time.
//
// It owns the ports. It knows nothing of what is in the files.
package fwcfg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
)

// Keys and sizes of the device's interface.
const (
	keySignature = 0x00 // reads "QEMU"
	keyDirectory = 0x19 // reads a u32 count, then that many entries; all big endian
	entrySize    = 64   // u32 size, u16 key, u16 reserved, name of at most 55 bytes and a NUL
	maxFiles     = 4096 // more than QEMU takes: what says so is no directory
)

// ErrNoDevice says that this machine has no such device.
var ErrNoDevice = errors.New("this machine has no fw_cfg device")

// A ports is the device: a key is selected, and then bytes are read.
type ports interface {
	choose(key uint16)
	read(p []byte)
	close() error
}

// A File is one file of the device. It belongs to the goroutine that opened it, and
// holds that one to its thread until Close.
type File struct {
	dev ports
	key uint16
}

// Open finds a file by its name, such as "opt/org.example/settings". A file that
// is not there is fs.ErrNotExist, a machine without the device is ErrNoDevice; it
// takes root's permission to use I/O ports.
func Open(name string) (*File, error) {
	dev, err := openPorts()
	if err != nil {
		return nil, fmt.Errorf("open fw_cfg file %s: %w", name, err)
	}
	key, err := find(dev, name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open fw_cfg file %s: %w", name, err), dev.close())
	}
	return &File{dev, key}, nil
}

func find(dev ports, name string) (uint16, error) {
	var signature [4]byte
	dev.choose(keySignature)
	dev.read(signature[:])
	if string(signature[:]) != "QEMU" {
		return 0, ErrNoDevice
	}
	var count [4]byte
	dev.choose(keyDirectory)
	dev.read(count[:])
	n := binary.BigEndian.Uint32(count[:])
	if n > maxFiles {
		return 0, fmt.Errorf("the directory says that it has %d files", n)
	}
	for range n {
		var entry [entrySize]byte
		dev.read(entry[:])
		is, _, _ := bytes.Cut(entry[8:], []byte{0})
		if string(is) == name {
			return binary.BigEndian.Uint16(entry[4:]), nil
		}
	}
	return 0, fs.ErrNotExist
}

// First goes back to the file's beginning and reads its first byte.
func (f *File) First() byte {
	var b [1]byte
	f.dev.choose(f.key)
	f.dev.read(b[:])
	return b[0]
}

// Read fills p with what follows. Behind the file's end the device reads as zeros,
// and nobody tells: the file itself has to say how long it is.
func (f *File) Read(p []byte) { f.dev.read(p) }

// Close gives the ports back.
func (f *File) Close() error { return f.dev.close() }
