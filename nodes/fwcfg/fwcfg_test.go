package fwcfg

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"testing"
)

// A board is a device made of items by key.
type board struct {
	items map[uint16][]byte
	rest  []byte
}

func (b *board) choose(key uint16) { b.rest = b.items[key] }

func (b *board) read(p []byte) {
	clear(p)
	b.rest = b.rest[copy(p, b.rest):]
}

func (b *board) close() error { return nil }

func newBoard(files ...string) *board {
	directory := binary.BigEndian.AppendUint32(nil, uint32(len(files)))
	b := &board{items: map[uint16][]byte{keySignature: []byte("QEMU")}}
	for i, name := range files {
		key := uint16(0x20 + i)
		entry := make([]byte, entrySize)
		binary.BigEndian.PutUint32(entry, uint32(len(name)))
		binary.BigEndian.PutUint16(entry[4:], key)
		copy(entry[8:], name)
		directory = append(directory, entry...)
		b.items[key] = []byte("content of " + name)
	}
	b.items[keyDirectory] = directory
	return b
}

func TestFind(t *testing.T) {
	b := newBoard("etc/e820", "opt/a", "opt/ab")
	for name, want := range map[string]uint16{"etc/e820": 0x20, "opt/a": 0x21, "opt/ab": 0x22} {
		if key, err := find(b, name); err != nil || key != want {
			t.Errorf("%s: key %#x, %v; want %#x", name, key, err, want)
		}
	}
	if _, err := find(b, "opt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the beginning of a name: %v", err)
	}
	if _, err := find(newBoard(), "opt/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	b.items[keyDirectory] = []byte{0xff, 0xff, 0xff, 0xff}
	if _, err := find(b, "opt/a"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory without end: %v", err)
	}
	b.items[keySignature] = []byte{0xff, 0xff, 0xff, 0xff} // what ports read that nothing is behind
	if _, err := find(b, "opt/a"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("no device: %v", err)
	}
}

// A file is read from its beginning as often as is wanted, and says what it says then.
func TestFileIsReadAnew(t *testing.T) {
	b := newBoard("opt/a")
	f := &File{b, 0x20}
	rest := make([]byte, 7)
	for range 2 {
		if c := f.First(); c != 'c' {
			t.Fatalf("first byte %q", c)
		}
		if f.Read(rest); string(rest) != "ontent " {
			t.Fatalf("then %q", rest)
		}
	}
	b.items[0x20] = []byte("go")
	if c := f.First(); c != 'g' {
		t.Errorf("a file that has changed begins with %q", c)
	}
}
