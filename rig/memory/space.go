package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Page tables of amd64 (Intel SDM volume 3, 4.5), and what Linux adds (arch/x86/include/asm/pgtable_types.h).
const (
	entries     = 512 // of each table
	firstKernel = 256 // the first entry of the top table that is the kernel's, and every process has
	levels      = 4

	present   = 1 << 0
	writable  = 1 << 1
	accessed  = 1 << 5
	dirty     = 1 << 6
	huge      = 1 << 7 // in an entry above the last level
	protNone  = 1 << 8 // Linux: there, but nobody may use it; its address is inverted
	noExecute = 1 << 63

	frame = 1<<52 - pageSize // the bits that are the physical address

	cr0Paging    = 1 << 31
	cr4FiveLevel = 1 << 12

	userCS, userSS = 0x33, 0x2b // Linux: __USER_CS, __USER_DS

	// userEnd is where the addresses of programs end.
	userEnd = 1 << 47
)

// A space is the addresses of a process, which all its threads have in common.
type space struct {
	dump  *Dump
	top   uint64 // the physical address of its uppermost table
	pages map[uint64]uint64
}

// A mapping is a range of a space with the same rights. It lies together in the space, and anywhere in memory.
type mapping struct {
	from, to       uint64
	write, execute bool
	none           bool // nobody may use it
}

// addressSpaces returns those of all processes of the machine.
//
// Each has a page that is its uppermost table, and all of them share their upper half, the kernel's. So a page is one when that half is the one that
// the processor uses now. Entries are added to it as the kernel needs them, and to others only when those need them: what both have must agree.
func (d *Dump) addressSpaces() ([]*space, error) {
	if d.spaces != nil {
		return d.spaces, nil
	}
	cpu := d.CPUs[0]
	if cpu.CR0&cr0Paging == 0 {
		return nil, errors.New("its processor does not use page tables yet: it is of a machine that has hardly begun to boot; take one later")
	}
	if cpu.CR4&cr4FiveLevel != 0 {
		return nil, errors.New("its page tables have five levels, and this rig reads those of four; start the machine with no5lvl in its kernel's command line")
	}
	var model [pageSize]byte
	if err := d.ReadPhysical(model[:], cpu.CR3&frame); err != nil {
		return nil, fmt.Errorf("read the page table of its processor: %w", err)
	}
	const last = entries - 1 // the kernel's own code and data
	if entry(model[:], last)&present == 0 {
		return nil, fmt.Errorf("the page table of its processor, at %#x, has no kernel: it is no dump of Linux", cpu.CR3&frame)
	}
	spaces := []*space{}
	err := d.eachPage(func(address uint64, page []byte) {
		if entry(page, last) == entry(model[:], last) && isTop(page, model[:]) {
			spaces = append(spaces, &space{dump: d, top: address, pages: map[uint64]uint64{}})
		}
		if r, ok := userRegisters(page); ok {
			d.users = append(d.users, r)
		}
	})
	if err != nil {
		return nil, err
	}
	d.spaces = spaces
	return spaces, nil
}

// entry is one of a table, without what the processor notes in it.
func entry(table []byte, i int) uint64 {
	return binary.LittleEndian.Uint64(table[i*8:]) &^ (accessed | dirty)
}

// isTop reports whether a page is the uppermost table of a process: it has the kernel that model has, and something of its own.
func isTop(page, model []byte) bool {
	const fewest = 3 // of the kernel: its code, its map of all memory, and its stacks
	common := 0
	for i := firstKernel; i < entries; i++ {
		mine, theirs := entry(page, i), entry(model, i)
		if mine&present == 0 || theirs&present == 0 {
			if mine != 0 && mine&present == 0 {
				return false // nothing of the kernel's is ever swapped out
			}
			continue
		}
		if mine != theirs {
			return false
		}
		common++
	}
	if common < fewest {
		return false
	}
	for i := range firstKernel {
		if entry(page, i)&present != 0 {
			return true
		}
	}
	return false
}

// userRegisters are what a program's thread had in its registers when it came to the kernel, if page is the upmost of the thread's stack there: they
// are the last on it. A thread that has ended may have left them, too.
func userRegisters(page []byte) (r Registers, ok bool) {
	const (
		always, enabled = 1 << 1, 1 << 9 // of the flags: a bit that is always set, and interrupts
		size            = 21 * 8
	)
	end := page[pageSize-size:]
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(end[i*8:]) }
	if word(17) != userCS || word(20) != userSS || word(18)&(always|enabled) != always|enabled || word(16) >= userEnd || word(19) >= userEnd {
		return r, false
	}
	_, err := binary.Decode(end, binary.LittleEndian, &r)
	return r, err == nil
}

// physical translates an address.
func (s *space) physical(address uint64) (uint64, error) {
	if address >= userEnd {
		return 0, &addressError{"address", address}
	}
	page := address &^ (pageSize - 1)
	if at, ok := s.pages[page]; ok {
		return at + address - page, nil
	}
	table := s.top
	for level := levels - 1; ; level-- {
		shift := 12 + 9*level
		var raw [8]byte
		if err := s.dump.ReadPhysical(raw[:], table+address>>shift%entries*8); err != nil {
			return 0, fmt.Errorf("translate address %#x: %w", address, err)
		}
		e, leaf := leafEntry(binary.LittleEndian.Uint64(raw[:]), level)
		if e == 0 {
			return 0, &addressError{"address", address}
		}
		if leaf {
			at := e & frame &^ (1<<shift - 1) // the lowest bits of a large page's are something else
			at += page & (1<<shift - 1)
			s.pages[page] = at
			return at + address - page, nil
		}
		table = e & frame
	}
}

// leafEntry returns an entry with the physical address as it is meant, or zero when it leads nowhere, and whether it leads to a page.
func leafEntry(e uint64, level int) (uint64, bool) {
	if e&present == 0 {
		if e&protNone == 0 || level == levels-1 {
			return 0, false
		}
		e ^= frame // so that no processor guesses what lies there
		return e, level == 0 || e&huge != 0
	}
	return e, level == 0 || level < levels-1 && e&huge != 0
}

// read reads from an address on. All of p is read, or it is an error.
func (s *space) read(p []byte, address uint64) error {
	for len(p) > 0 {
		at, err := s.physical(address)
		if err != nil {
			return err
		}
		n := min(uint64(len(p)), pageSize-address%pageSize)
		if err := s.dump.ReadPhysical(p[:n], at); err != nil {
			return err
		}
		p, address = p[n:], address+n
	}
	return nil
}

// has reports whether the page of an address is in memory.
func (s *space) has(address uint64) bool {
	_, err := s.physical(address)
	return err == nil
}

// mappings returns all that a program could use, in the order of addresses. Tables that lead into each other again and again, as corrupt ones can, are
// an error.
func (s *space) mappings() ([]mapping, error) {
	var all []mapping
	// A page can be mapped in several places, which is why there are more than pages of memory.
	tables, most := uint64(0), s.dump.size()/pageSize
	var walk func(table, base uint64, level int, rights uint64) error
	walk = func(table, base uint64, level int, rights uint64) error {
		if tables++; tables > most {
			return fmt.Errorf("the page tables from %#x are corrupt: there are more of them than the machine has memory", s.top)
		}
		var page [pageSize]byte
		if err := s.dump.ReadPhysical(page[:], table); err != nil {
			return fmt.Errorf("read a page table: %w", err)
		}
		count := entries
		if level == levels-1 {
			count = firstKernel
		}
		for i := range count {
			raw := binary.LittleEndian.Uint64(page[i*8:])
			e, leaf := leafEntry(raw, level)
			if e == 0 {
				continue
			}
			from := base + uint64(i)<<(12+9*level)
			allowed := rights & (e ^ noExecute)
			if !leaf {
				if err := walk(e&frame, from, level-1, allowed); err != nil {
					return err
				}
				continue
			}
			m := mapping{from, from + 1<<(12+9*level), allowed&writable != 0, allowed&noExecute != 0, raw&present == 0}
			if n := len(all); n > 0 && all[n-1].to == m.from && all[n-1].write == m.write && all[n-1].execute == m.execute && all[n-1].none == m.none {
				all[n-1].to = m.to
			} else if all = append(all, m); uint64(len(all)) > most {
				return fmt.Errorf("the page tables from %#x are corrupt: they have more pages than the machine", s.top)
			}
		}
		return nil
	}
	if err := walk(s.top, 0, levels-1, writable|noExecute); err != nil {
		return nil, err
	}
	return all, nil
}
