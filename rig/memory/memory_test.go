package memory

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is no dump of a machine says what it is, and what to do.
func TestOpenStrangers(t *testing.T) {
	var cpu, old bytes.Buffer
	state := newMade().cpu
	_ = binary.Write(&cpu, binary.LittleEndian, state)
	state.Version = 9
	_ = binary.Write(&old, binary.LittleEndian, state)
	good := makeNote(cpuNote, 0, cpu.Bytes())
	core := func(notes []byte, load elf.Prog64) []byte {
		return makeCore(elf.ET_CORE, elf.EM_X86_64, notes, load, make([]byte, pageSize))
	}
	whole := core(good, elf.Prog64{})
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"nothing", "it is no ELF file", nil},
		{"text", "it is no ELF file", []byte(strings.Repeat("text", 100))},
		{"its first bytes", "it is no ELF file", whole[:40]},
		{"a program", "it is ET_EXEC for EM_X86_64, no core", makeCore(elf.ET_EXEC, elf.EM_X86_64, good, elf.Prog64{}, nil)},
		{"another machine", "it is ET_CORE for EM_AARCH64, no core", makeCore(elf.ET_CORE, elf.EM_AARCH64, good, elf.Prog64{}, nil)},
		{"cut off", "it was cut off: segment 1 ends at byte", whole[:len(whole)-1]},
		{"as large as can be", "it was cut off", core(good, elf.Prog64{Filesz: 1<<63 - 1})},
		{"beyond all addresses", "goes from 0xfffffffffffff801 beyond all addresses", core(good, elf.Prog64{Paddr: 1<<64 - 2047})},
		{"a process", "of a program rather than of a machine", core(makeNote("CORE", noteStatus, make([]byte, 336)), elf.Prog64{})},
		{"no notes", "of a program rather than of a machine", core(nil, elf.Prog64{})},
		{"a short note", "of another QEMU", core(makeNote(cpuNote, 0, cpu.Bytes()[:100]), elf.Prog64{})},
		{"another note", "is version 9, this rig knows 1", core(makeNote(cpuNote, 0, old.Bytes()), elf.Prog64{})},
		{"many notes", "bytes of notes, more than", core(make([]byte, maxNotes+1), elf.Prog64{})},
	} {
		_, err := open(bytes.NewReader(c.data), int64(len(c.data)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "stranger")
	if _, err := Open(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, c := range []struct {
		data []byte
		want bool
	}{{whole, true}, {whole[:18], true}, {whole[:17], false}, {[]byte("text, which is long enough"), false}} {
		if err := os.WriteFile(file, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := IsCore(file); got != c.want {
			t.Errorf("%q: %t", c.data[:min(len(c.data), 20)], got)
		}
	}
	if IsCore(filepath.Dir(file)) {
		t.Error("a folder is a core")
	}
}

func TestReadPhysical(t *testing.T) {
	d := &Dump{file: strings.NewReader("abcdefgh"), segments: []segment{{from: 10, size: 2, offset: 1}, {from: 12, size: 3, offset: 5}}}
	var got [4]byte
	if err := d.ReadPhysical(got[:], 11); err != nil || string(got[:]) != "cfgh" {
		t.Errorf("%q, %v", got, err)
	}
	for _, address := range []uint64{9, 12, 15, 1<<64 - 1} {
		if err := d.ReadPhysical(got[:], address); err == nil || !strings.Contains(err.Error(), "is not in the dump") {
			t.Errorf("at %d: %v", address, err)
		}
	}
}

// Pages of all sizes, and those that nobody may use, are found where the tables say, and what is not mapped is not.
func TestTranslation(t *testing.T) {
	m := newMade()
	top := m.space()
	small := m.page([]byte("small"))
	m.set(top, 0x401000, small|present|writable|noExecute, 0)
	m.set(top, 0x402000, small|present|writable|noExecute|accessed|dirty, 0)
	m.set(top, 0x403000, small|present, 0)
	m.set(top, 0x404000, (small^frame)|protNone, 0)
	m.set(top, 0x405000, 0x123456<<12, 0) // swapped out
	m.set(top, 0x40000000, 0|present|writable|huge|1<<12, 1)
	m.set(top, 0x80000000, 0|present|huge, 2)
	for range 20 { // so that the second large page is one of memory
		m.page(nil)
	}
	d := opened(t, m.dump())
	spaces, err := d.addressSpaces()
	if err != nil || len(spaces) != 1 || spaces[0].top != top {
		t.Fatalf("%d spaces, %v", len(spaces), err)
	}
	s := spaces[0]
	for address, want := range map[uint64]uint64{
		0x401000: small, 0x402fff: small + 0xfff, 0x404004: small + 4, 0x40000000: 0, 0x40003001: 0x3001, 0x80005002: 0x5002,
	} {
		if got, err := s.physical(address); err != nil || got != want {
			t.Errorf("%#x is at %#x, %v, want %#x", address, got, err, want)
		}
	}
	for _, address := range []uint64{0, 0x405000, 0x406000, 0x7fffffffffff, userEnd, 1<<64 - 1} {
		if got, err := s.physical(address); err == nil {
			t.Errorf("%#x is at %#x", address, got)
		}
	}
	var text [5]byte
	if err := s.read(text[:], 0x404000); err != nil || string(text[:]) != "small" {
		t.Errorf("%q, %v", text, err)
	}
	got, err := s.mappings()
	want := []mapping{
		{0x401000, 0x403000, true, false, false}, {0x403000, 0x404000, false, true, false}, {0x404000, 0x405000, false, true, true},
		{0x40000000, 0x40200000, true, true, false}, {0x80000000, 0xc0000000, false, true, false},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("mapping %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// Tables that lead into themselves, and such as lead out of the memory.
func TestCorruptTables(t *testing.T) {
	m := newMade()
	top := m.space()
	m.set(top, 0, top|present, 3)
	nowhere := m.space()
	m.set(nowhere, 0, 1<<40|present, 3)
	d := opened(t, m.dump())
	spaces, err := d.addressSpaces()
	if err != nil || len(spaces) != 2 {
		t.Fatalf("%d spaces, %v", len(spaces), err)
	}
	if _, err := spaces[0].mappings(); err == nil || !strings.Contains(err.Error(), "are corrupt: there are more of them") {
		t.Errorf("a circle: %v", err)
	}
	if _, err := spaces[1].mappings(); err == nil || !strings.Contains(err.Error(), "0x10000000000 is not in the dump") {
		t.Errorf("outside: %v", err)
	}
	if _, err := spaces[1].physical(0x1000); err == nil || !strings.Contains(err.Error(), "translate address 0x1000") {
		t.Errorf("outside: %v", err)
	}
}

// Which pages are the uppermost table of a process.
func TestAddressSpaces(t *testing.T) {
	m := newMade()
	idle := m.space()
	grown := m.space() // the kernel has added something to this one only
	m.set(grown, 0, m.page(nil)|present, 3)
	binary.LittleEndian.PutUint64(m.pages[grown/pageSize][310*8:], 0xa000|present)
	other := m.space() // of another kernel
	m.set(other, 0, m.page(nil)|present, 3)
	binary.LittleEndian.PutUint64(m.pages[other/pageSize][300*8:], 0xb000|present)
	spaces, err := opened(t, m.dump()).addressSpaces()
	if err != nil || len(spaces) != 1 || spaces[0].top != grown {
		t.Errorf("%d spaces, %v; the idle one is at %#x", len(spaces), err, idle)
	}
	if _, err := opened(t, newMade().dump()).Programs(&Binary{}); err == nil || !strings.Contains(err.Error(), "no process is in it") {
		t.Errorf("no processes: %v", err)
	}
	for _, c := range []struct {
		want   string
		change func(m *made)
	}{
		{"no5lvl", func(m *made) { m.cpu.CR[4] |= cr4FiveLevel }},
		{"hardly begun to boot", func(m *made) { m.cpu.CR[0] = 1 }},
		{"no dump of Linux", func(m *made) { m.cpu.CR[3] = 0 }},
		{"read the page table of its processor: physical address 0x7fffff000", func(m *made) { m.cpu.CR[3] = 0x7fffff018 }},
	} {
		m := newMade()
		c.change(m)
		if _, err := opened(t, m.dump()).addressSpaces(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// A file with holes tells the same as one without.
func TestHoles(t *testing.T) {
	m := newMade()
	for range 600 {
		m.page(nil)
	}
	top := m.space()
	m.set(top, 0, m.page(nil)|present, 3)
	data := m.dump()
	file := filepath.Join(t.TempDir(), "dump")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += pageSize {
		block := data[at:min(at+pageSize, len(data))]
		if bytes.Equal(block, make([]byte, len(block))) {
			continue
		}
		if _, err := f.WriteAt(block, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	visited := 0
	if err := d.eachPage(func(uint64, []byte) { visited++ }); err != nil || visited == 0 {
		t.Fatal(visited, err)
	}
	t.Logf("%d of %d pages are not in holes", visited, len(m.pages))
	if spaces, err := d.addressSpaces(); err != nil || len(spaces) != 1 || spaces[0].top != top {
		t.Errorf("%d spaces, %v", len(spaces), err)
	}
}

// FuzzOpen has anything be a dump: whatever is in it, it is read to an end.
func FuzzOpen(f *testing.F) {
	m := newMade()
	top := m.space()
	m.set(top, 0x400000, m.page([]byte(elf.ELFMAG))|present, 0)
	m.set(top, 0x40000000, present|huge, 1)
	m.user(Registers{IP: 1, CS: userCS, Flags: 1<<9 | 1<<1, SP: 2, SS: userSS})
	f.Add(m.dump())
	f.Add(makeCore(elf.ET_CORE, elf.EM_X86_64, nil, elf.Prog64{}, nil))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		spaces, err := d.addressSpaces()
		if err != nil {
			return
		}
		for _, s := range spaces {
			_, _ = s.mappings()
			_, _ = memoryID(s)
		}
		_, _ = d.Programs(&Binary{id: "00", idNote: 0x400000, text: load{from: 0x400000, data: make([]byte, 4*pageSize)}})
	})
}
