package memory

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Notes of a process's core (Linux: fs/binfmt_elf.c, include/uapi/linux/elfcore.h).
const (
	noteStatus  = 1 // NT_PRSTATUS
	noteProcess = 3 // NT_PRPSINFO
	noteAuxv    = 6 // NT_AUXV
)

// threadStatus is struct elf_prstatus.
type threadStatus struct {
	Signal, Code, Errno     int32
	Current                 uint16
	_                       [2]byte
	Pending, Held           uint64
	PID, Parent, Group, SID int32
	Times                   [8]uint64
	Registers               Registers
	FSBase, GSBase          uint64
	DS, ES, FS, GS          uint64
	FPValid                 int32
	_                       [4]byte
}

// processInfo is struct elf_prpsinfo.
type processInfo struct {
	State, Sname, Zombie, Nice byte
	_                          [4]byte
	Flags                      uint64
	UID, GID                   uint32
	PID, Parent, Group, SID    int32
	Name                       [16]byte
	Args                       [80]byte
}

// arena is what Go's runtime asks the kernel for at a time, in bytes, aligned to as much: heapArenaBytes on amd64. All of it can be used from then on.
const arena = 64 << 20

// maxCore bounds how large a core is, counting holes, by the machine's memory.
const maxCore = 64

// WriteCore writes what a program has in memory, and its threads' registers, to a new file, mode 0600: an ELF core of a process, as Linux writes one when
// a program crashes, which `dlv core` opens along with the binary. What is there already is not written over, and a failure leaves no file.
//
// What the program could have used and never has is no part of the machine's memory. Where that is known, of its variables and its heap, the core has it as
// holes, which are zeros. A thread whose registers were not found has those with which its goroutine, or the thread itself, will go on.
func (p *Program) WriteCore(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("%s is there already; name another file, or move it away", file)
	}
	if err == nil {
		if err = errors.Join(p.writeCore(f), f.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}
	if err != nil {
		return fmt.Errorf("write a core of %s, process %d: %w", p.Name(), p.PID, err)
	}
	return nil
}

func (p *Program) writeCore(f *os.File) error {
	ranges, err := p.ranges()
	if err != nil {
		return err
	}
	notes, err := p.notes()
	if err != nil {
		return err
	}
	var head bytes.Buffer
	const headerSize, progSize = 64, 56
	header := elf.Header64{
		Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(len(ranges) + 1),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	at := uint64(headerSize + progSize*(len(ranges)+1))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(notes)), Align: 4}}
	at = (at + uint64(len(notes)) + pageSize - 1) &^ (pageSize - 1)
	for _, r := range ranges {
		flags := elf.PF_R
		if r.write {
			flags |= elf.PF_W
		}
		if r.execute {
			flags |= elf.PF_X
		}
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Off: at, Vaddr: r.from, Filesz: r.to - r.from, Memsz: r.to - r.from, Align: pageSize})
		at += r.to - r.from
	}
	for _, part := range []any{header, progs, notes} {
		if err := binary.Write(&head, binary.LittleEndian, part); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(head.Bytes(), 0); err != nil {
		return err
	}
	var zeros [pageSize]byte
	for i, r := range ranges {
		for address := r.from; address < r.to; address += pageSize {
			var page [pageSize]byte
			// Nothing at all is there of a range's hole.
			if p.read(page[:], address) != nil || page == zeros {
				continue
			}
			if _, err := f.WriteAt(page[:], int64(progs[i+1].Off+address-r.from)); err != nil {
				return err
			}
		}
	}
	return f.Truncate(int64(at))
}

// ranges are the mappings that a core has, in the order of addresses, with what the program could use between them as well.
func (p *Program) ranges() ([]mapping, error) {
	all, err := p.space.mappings()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m mapping) bool {
		return m.none || slices.ContainsFunc(p.binary.loads, func(l load) bool { return m.from < l.to && m.to > l.from })
	})
	for _, l := range p.binary.loads {
		all = append(all, mapping{from: l.from &^ (pageSize - 1), to: (l.to + pageSize - 1) &^ (pageSize - 1), write: l.write, execute: l.execute})
	}
	slices.SortFunc(all, func(a, b mapping) int { return int(int64(a.from - b.from)) }) // both are far below 1<<63
	whole := all[:0]
	size := uint64(0)
	for _, m := range all {
		if n := len(whole); n > 0 && !m.execute && m.write {
			if last := &whole[n-1]; last.write && !last.execute && (last.to-1)/arena == m.from/arena && m.from >= last.to {
				size += m.to - last.to
				last.to = m.to
				continue
			}
		}
		size += m.to - m.from
		whole = append(whole, m)
	}
	if size > maxCore*p.dump.size() || len(whole) >= 1<<16-2 {
		return nil, fmt.Errorf("its page tables are corrupt: they have %d ranges with %d MiB, on a machine with %d", len(whole), size>>20, p.dump.size()>>20)
	}
	return whole, nil
}

func (p *Program) notes() ([]byte, error) {
	var out bytes.Buffer
	add := func(kind uint32, content any) error {
		const owner = "CORE\x00\x00\x00\x00"
		size := binary.Size(content)
		for _, part := range []any{uint32(5), uint32(size), kind, []byte(owner), content, make([]byte, -size&3)} {
			if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
				return err
			}
		}
		return nil
	}
	info := processInfo{Sname: 'S', PID: int32(p.PID)}
	copy(info.Name[:len(info.Name)-1], p.Name())
	copy(info.Args[:len(info.Args)-1], strings.Join(p.Args, " "))
	// Debuggers take the first thread for the current one: the main thread, which is the last that the runtime has.
	for _, t := range slices.Backward(p.threads) {
		if t.id == 0 {
			continue // it has not begun
		}
		s := threadStatus{PID: int32(t.id), Group: int32(p.PID), Registers: t.registers, FSBase: t.fsBase}
		if !t.known {
			if err := p.resting(t, &s.Registers); err != nil {
				return nil, err
			}
		}
		if err := add(noteStatus, s); err != nil {
			return nil, err
		}
	}
	if out.Len() == 0 {
		return nil, errors.New("none of its threads has begun: ask for its goroutines without a core")
	}
	if err := add(noteProcess, info); err != nil {
		return nil, err
	}
	if len(p.auxv) > 0 {
		if err := add(noteAuxv, p.auxv); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// resting makes r what a thread will go on with, as far as Go's runtime has noted it.
func (p *Program) resting(t thread, r *Registers) error {
	address := t.current
	if address == 0 {
		address = t.systemG
	}
	g, err := p.value("runtime.g", address)
	if err != nil {
		return err
	}
	r.IP, r.SP, r.BP, r.R14 = g.get("sched", "pc"), g.get("sched", "sp"), g.get("sched", "bp"), address
	if pc := g.get("syscallpc"); pc != 0 {
		r.IP, r.SP, r.BP = pc, g.get("syscallsp"), g.get("syscallbp")
	}
	r.CS, r.SS = userCS, userSS
	return g.err
}
