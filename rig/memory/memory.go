// Package memory reads what lay in the memory of a machine from a dump of it, as `rig dump` writes one: which programs ran, with which arguments, and
// what each of their goroutines did.
//
// It owns the form of such dumps, the page tables of Linux on amd64 and the data of Go's runtime, as far as they tell that. It never talks to a
// machine, never writes to a dump, and needs no symbols of the kernel. What it reads it takes for hostile: a machine that crashed may have written
// anything anywhere, so every length and every chain is bounded, and what does not fit is an error.
package memory

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// pageSize is the smallest page of amd64, in bytes; tables and what is told of threads are looked for in steps of it.
const pageSize = 4 << 10

// advice is how one comes to a file that can be read.
const advice = "name an ELF core of a whole machine, as `rig dump NODE FILE` writes it"

// A Dump is the memory of a machine, opened for reading. Its methods must not be called concurrently.
type Dump struct {
	// CPUs are the machine's processors, one at least, as they were.
	CPUs []CPU

	name     string
	file     io.ReaderAt
	next     func(offset int64) int64 // the next offset that is not in a hole
	close    func() error
	segments []segment // in the order of their addresses, none overlaps another
	spaces   []*space  // once looked for
	users    []Registers
}

// A segment is a range of physical addresses and where the file has it.
type segment struct {
	from, size uint64
	offset     int64
}

// A CPU is the state of a processor.
type CPU struct {
	Registers
	FSBase uint64
	CR0    uint64
	CR3    uint64
	CR4    uint64
}

// User reports whether the processor ran a program's code rather than the kernel's.
func (c CPU) User() bool { return c.CS&3 == 3 }

// Registers are those of code that stands, in the order in which the kernel saves them: struct pt_regs.
type Registers struct {
	R15, R14, R13, R12, BP, BX uint64
	R11, R10, R9, R8           uint64
	AX, CX, DX, SI, DI         uint64
	OrigAX                     uint64 // the number of the system call, or all ones
	IP, CS, Flags, SP, SS      uint64
}

// IsCore reports whether a file is an ELF core, by its first bytes. It is false for what is no regular file or cannot be read.
func IsCore(name string) bool {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [18]byte // the identification and the type
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false
	}
	return string(head[:4]) == elf.ELFMAG && binary.LittleEndian.Uint16(head[16:]) == uint16(elf.ET_CORE)
}

// Open opens a dump of an amd64 machine. A file of another kind, or one that was cut off, is an error that says which and what to do.
func Open(name string) (*Dump, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open dump: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open dump: %w", err), f.Close())
	}
	d, err := open(f, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open dump %s: %w", name, err), f.Close())
	}
	d.name, d.close = name, f.Close
	d.next = func(offset int64) int64 {
		at, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return info.Size() // nothing but a hole
		case err != nil:
			return offset // a file system without them
		}
		return at
	}
	return d, nil
}

// Close closes the file.
func (d *Dump) Close() error { return d.close() }

func open(file io.ReaderAt, size int64) (*Dump, error) {
	f, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("it is no ELF file: %w; %s", err, advice)
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian {
		return nil, fmt.Errorf("it is %v for %v, no core of an amd64 machine; %s", f.Type, f.Machine, advice)
	}
	d := &Dump{name: "the dump", file: file, next: func(offset int64) int64 { return offset }, close: func() error { return nil }}
	for i, p := range f.Progs {
		switch p.Type {
		case elf.PT_LOAD, elf.PT_NOTE:
		default:
			continue
		}
		if p.Off > uint64(size) || p.Filesz > uint64(size)-p.Off {
			return nil, fmt.Errorf("it was cut off: segment %d ends at byte %d of a file of %d; take the dump again, with more room on the disk", i, p.Off+p.Filesz, size)
		}
		if p.Type == elf.PT_NOTE {
			if err := d.readNotes(p); err != nil {
				return nil, err
			}
		} else if p.Filesz > 0 {
			if p.Paddr+p.Filesz < p.Paddr {
				return nil, fmt.Errorf("segment %d goes from %#x beyond all addresses; %s", i, p.Paddr, advice)
			}
			d.segments = append(d.segments, segment{p.Paddr, p.Filesz, int64(p.Off)})
		}
	}
	if len(d.CPUs) == 0 {
		return nil, fmt.Errorf("it has no note of QEMU's with the processors' state, so it may be of a program rather than of a machine; %s", advice)
	}
	slices.SortFunc(d.segments, func(a, b segment) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(d.segments); i++ {
		if a, b := d.segments[i-1], d.segments[i]; a.from+a.size > b.from {
			return nil, fmt.Errorf("its segments from %#x and %#x overlap: it was taken with paging, or is no dump of a machine; %s", a.from, b.from, advice)
		}
	}
	return d, nil
}

// maxNotes bounds what is read of notes, in bytes: those of a processor take some 800.
const maxNotes = 1 << 20

// The note with QEMU's state of a processor: struct QEMUCPUState of target/i386/arch_dump.c.
const (
	cpuNote    = "QEMU"
	cpuVersion = 1
)

// cpuState is that struct, without kernel_gs_base at its end.
type cpuState struct {
	Version, Size                             uint32
	AX, BX, CX, DX, SI, DI, SP, BP            uint64
	R8, R9, R10, R11, R12, R13, R14, R15      uint64
	IP, Flags                                 uint64
	CS, DS, ES, FS, GS, SS, LDT, TR, GDT, IDT cpuSegment
	CR                                        [5]uint64
}

type cpuSegment struct {
	Selector, Limit, Flags, _ uint32
	Base                      uint64
}

func (d *Dump) readNotes(p *elf.Prog) error {
	if p.Filesz > maxNotes {
		return fmt.Errorf("it has %d bytes of notes, more than %d; %s", p.Filesz, maxNotes, advice)
	}
	data := make([]byte, p.Filesz)
	if _, err := p.ReadAt(data, 0); err != nil && len(data) > 0 {
		return fmt.Errorf("read its notes: %w", err)
	}
	for note := range notes(data) {
		if note.owner != cpuNote || note.kind != 0 {
			continue
		}
		var s cpuState
		if n, err := binary.Decode(note.desc, binary.LittleEndian, &s); err != nil || int(s.Size) < n || int(s.Size) > len(note.desc) {
			return fmt.Errorf("its note on processor %d has %d bytes: of another QEMU; this rig knows that of 7.2", len(d.CPUs), len(note.desc))
		}
		if s.Version != cpuVersion {
			return fmt.Errorf("its note on processor %d is version %d, this rig knows %d", len(d.CPUs), s.Version, cpuVersion)
		}
		d.CPUs = append(d.CPUs, CPU{
			Registers: Registers{
				R15: s.R15, R14: s.R14, R13: s.R13, R12: s.R12, BP: s.BP, BX: s.BX, R11: s.R11, R10: s.R10, R9: s.R9, R8: s.R8,
				AX: s.AX, CX: s.CX, DX: s.DX, SI: s.SI, DI: s.DI, OrigAX: ^uint64(0),
				IP: s.IP, CS: uint64(s.CS.Selector), Flags: s.Flags, SP: s.SP, SS: uint64(s.SS.Selector),
			},
			FSBase: s.FS.Base, CR0: s.CR[0], CR3: s.CR[3], CR4: s.CR[4],
		})
	}
	return nil
}

// A note is one of an ELF file.
type note struct {
	owner string
	kind  uint32
	desc  []byte
}

// notes iterates over the notes in data, as far as they are whole.
func notes(data []byte) func(yield func(note) bool) {
	return func(yield func(note) bool) {
		for len(data) >= 12 {
			owner, desc := uint64(binary.LittleEndian.Uint32(data)), uint64(binary.LittleEndian.Uint32(data[4:]))
			n := note{kind: binary.LittleEndian.Uint32(data[8:])}
			data = data[12:]
			if owner > uint64(len(data)) || (owner+3)&^3 > uint64(len(data)) {
				return
			}
			n.owner = string(bytes.TrimRight(data[:owner], "\x00"))
			data = data[(owner+3)&^3:]
			if desc > uint64(len(data)) {
				return
			}
			n.desc = data[:desc]
			data = data[min((desc+3)&^3, uint64(len(data))):]
			if !yield(n) {
				return
			}
		}
	}
}

// An addressError says that nothing is known of an address.
type addressError struct {
	what    string
	address uint64
}

func (e *addressError) Error() string {
	return fmt.Sprintf("%s %#x %s", e.what, e.address, "is not in the dump")
}

// ReadPhysical reads from a physical address on. All of p is read, or it is an error.
func (d *Dump) ReadPhysical(p []byte, address uint64) error {
	for len(p) > 0 {
		i, found := slices.BinarySearchFunc(d.segments, address, func(s segment, a uint64) int { return cmp.Compare(s.from, a) })
		if !found {
			i--
		}
		if i < 0 || address-d.segments[i].from >= d.segments[i].size {
			return &addressError{"physical address", address}
		}
		s := d.segments[i]
		in := address - s.from
		n := min(uint64(len(p)), s.size-in)
		if _, err := d.file.ReadAt(p[:n], s.offset+int64(in)); err != nil {
			return fmt.Errorf("read %s: %w", d.name, err)
		}
		p, address = p[n:], address+n
	}
	return nil
}

// size is how much memory the dump holds, in bytes.
func (d *Dump) size() (all uint64) {
	for _, s := range d.segments {
		all += s.size
	}
	return all
}

// eachPage calls f with each whole page that is not in a hole of the file. The page is f's until it returns.
func (d *Dump) eachPage(f func(address uint64, page []byte)) error {
	buf := make([]byte, 256*pageSize)
	for _, s := range d.segments {
		first := -s.from & (pageSize - 1) // of a segment that does not begin with a page
		for in := first; in < s.size && s.size-in >= pageSize; {
			data := d.next(s.offset + int64(in))
			if data > s.offset+int64(in) {
				skip := uint64(data-s.offset) - in
				if in += skip &^ (pageSize - 1); in >= s.size || s.size-in < pageSize {
					break
				}
			}
			n := min(uint64(len(buf)), (s.size-in)&^(pageSize-1))
			if _, err := d.file.ReadAt(buf[:n], s.offset+int64(in)); err != nil {
				return fmt.Errorf("read %s: %w", d.name, err)
			}
			for at := uint64(0); at < n; at += pageSize {
				f(s.from+in+at, buf[at:at+pageSize])
			}
			in += n
		}
	}
	return nil
}
