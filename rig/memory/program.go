package memory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A Program is a process of the machine, with all its threads.
type Program struct {
	PID  int      // its process id in the machine, 0 if that was not told yet
	Args []string // as it was called, its own name first; as far as they are in memory

	dump    *Dump
	binary  *Binary
	space   *space
	threads []thread
	auxv    []byte // what the kernel told it when it began, as far as it is in memory
}

// Name is what it was called as, without folders.
func (p *Program) Name() string {
	if len(p.Args) == 0 {
		return "?"
	}
	return filepath.Base(p.Args[0])
}

// A thread is one of a program's, as Go's runtime has it: an m.
type thread struct {
	address        uint64
	id             int // of the kernel
	fsBase         uint64
	system, signal stack // of its g0 and its gsignal
	current        uint64
	vdsoPC, vdsoSP uint64
	systemG        uint64

	registers Registers
	known     bool // whether registers are
}

// A stack is a range of addresses.
type stack struct{ from, to uint64 }

func (s stack) has(address uint64) bool { return address >= s.from && address < s.to }

// Programs returns the processes that run a binary, in the order of their ids. None is an error, which says what runs there instead. With some there is an
// error, too, when there are others that cannot be read.
func (d *Dump) Programs(b *Binary) ([]*Program, error) {
	all, err := d.programs(b)
	if err != nil {
		err = fmt.Errorf("dump %s: %w", d.name, err)
	}
	return all, err
}

func (d *Dump) programs(b *Binary) ([]*Program, error) {
	spaces, err := d.addressSpaces()
	if err != nil {
		return nil, err
	}
	var all []*Program
	var ids []string
	var problems []error
	changed := false
	for _, s := range spaces {
		if !b.matches(s) {
			if id, ok := memoryID(s); ok && !slices.Contains(ids, id) {
				ids = append(ids, id)
				changed = changed || id == b.id
			}
			continue
		}
		p := &Program{dump: d, binary: b, space: s}
		if err := p.look(); err != nil {
			problems = append(problems, err)
			continue
		}
		all = append(all, p)
	}
	switch {
	case len(all) > 0:
		slices.SortFunc(all, func(a, b *Program) int { return cmp.Compare(a.PID, b.PID) })
		return all, errors.Join(problems...)
	case len(problems) > 0:
		return nil, errors.Join(problems...)
	case len(spaces) == 0:
		return nil, errors.New("no process is in it: the machine had not started any, or it is not Linux")
	case changed:
		return nil, fmt.Errorf("what runs there is of the same source as %s, and other code, as `rig dlv -fresh` starts it: it takes the binary it was started from", b.name)
	case b.id == "":
		return nil, fmt.Errorf("none of its %d processes runs %s", len(spaces), b.name)
	}
	return nil, fmt.Errorf("none of its %d processes runs %s, whose build id is %s; those that tell theirs have %s. What it takes is the binary with debug information that was built along with the machine's programs, "+
		"from the source as it was then", len(spaces), b.name, b.id, cmp.Or(strings.Join(ids, ", "), "none"))
}

// look finds out who a program is.
func (p *Program) look() error {
	if err := p.readArgs(); err != nil {
		return fmt.Errorf("arguments of a program: %w", err)
	}
	if err := p.readThreads(); err != nil {
		return fmt.Errorf("threads of %s: %w", p.Name(), err)
	}
	return nil
}

// read reads from an address of the program on. What it could use, and never has, is not in the machine's memory: for the binary's own variables
// that is what is in the file.
func (p *Program) read(data []byte, address uint64) error {
	for len(data) > 0 {
		n := min(uint64(len(data)), pageSize-address%pageSize)
		if err := p.space.read(data[:n], address); err != nil {
			page, ok := p.binary.untouched(address)
			if !ok || uint64(len(page)) < n {
				return err
			}
			copy(data[:n], page)
		}
		data, address = data[n:], address+n
	}
	return nil
}

// number reads a number of the program's memory.
func (p *Program) number(address uint64, size int) (uint64, error) {
	var raw [8]byte
	err := p.read(raw[:size], address)
	return word(raw[:size]), err
}

// Bounds of what is taken for arguments.
const (
	maxArgs    = 1024
	maxArg     = 4 << 10
	maxVectors = 64 // of what the kernel tells: some 20 pairs
)

// readArgs reads argc, argv, and what lies behind the environment.
func (p *Program) readArgs() error {
	count, err := p.number(p.binary.symbols["argc"], 4)
	if err != nil {
		return err
	}
	argv, err := p.number(p.binary.symbols["argv"], 8)
	if err != nil {
		return err
	}
	if count == 0 || argv == 0 {
		return nil // it has not come to notice them
	}
	for i := range min(count, maxArgs) {
		address, err := p.number(argv+i*8, 8)
		if err != nil {
			return err
		}
		arg, err := p.text(address)
		if err != nil {
			return err
		}
		p.Args = append(p.Args, arg)
	}
	at := argv + (count+1)*8
	for range maxArgs * 4 {
		address, err := p.number(at, 8)
		if err != nil {
			return nil // nobody needs them
		}
		if at += 8; address == 0 {
			break
		}
	}
	for range maxVectors {
		var pair [16]byte
		if p.read(pair[:], at) != nil {
			return nil
		}
		p.auxv = append(p.auxv, pair[:]...)
		if at += 16; word(pair[:8]) == 0 {
			break
		}
	}
	return nil
}

// text reads a string that ends with a zero, as far as it is in memory.
func (p *Program) text(address uint64) (string, error) {
	var all []byte
	for len(all) < maxArg {
		rest := make([]byte, pageSize-address%pageSize)
		if err := p.read(rest, address); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(rest, 0); i >= 0 {
			return string(append(all, rest[:i]...)), nil
		}
		all, address = append(all, rest...), address+uint64(len(rest))
	}
	return string(all[:maxArg]), nil
}

// A value is a struct of the runtime in a program's memory.
type value struct {
	binary *Binary
	name   string
	data   []byte
	err    error // the first of get
}

// value reads a struct of a type of the runtime.
func (p *Program) value(name string, address uint64) (*value, error) {
	v := &value{binary: p.binary, name: name, data: make([]byte, p.binary.types[name].ByteSize)}
	if err := p.read(v.data, address); err != nil {
		return nil, fmt.Errorf("%s at %#x: %w", name, address, err)
	}
	return v, nil
}

// get returns a field. After an error it is zero, and so are all others.
func (v *value) get(path ...string) uint64 {
	if v.err != nil {
		return 0
	}
	n, err := v.binary.get(v.data, v.name, path...)
	v.err = err
	return n
}

// stack of a g.
func (v *value) stack() stack { return stack{v.get("stack", "lo"), v.get("stack", "hi")} }

// maxThreads bounds how many are looked for: the runtime has none more than 10,000.
const maxThreads = 10_000

// readThreads reads the list of threads, and finds their registers as far as it can.
func (p *Program) readThreads() error {
	at, err := p.number(p.binary.symbols["allm"], 8)
	if err != nil {
		return err
	}
	tls, err := p.binary.field("runtime.m", "tls")
	if err != nil {
		return err
	}
	for at != 0 {
		if len(p.threads) == maxThreads {
			return fmt.Errorf("there are more than %d, so that list is corrupt", maxThreads)
		}
		m, err := p.value("runtime.m", at)
		if err != nil {
			return err
		}
		t := thread{address: at, id: int(int32(m.get("procid"))), current: m.get("curg"), vdsoPC: m.get("vdsoPC"), vdsoSP: m.get("vdsoSP"), systemG: m.get("g0")}
		// The runtime has the word below it for the running g (runtime.settls).
		t.fsBase = at + tls.offset + 8
		signal, next := m.get("gsignal"), m.get("alllink")
		if m.err != nil {
			return m.err
		}
		for address, out := range map[uint64]*stack{t.systemG: &t.system, signal: &t.signal} {
			if address == 0 {
				continue
			}
			g, err := p.value("runtime.g", address)
			if err != nil {
				return err
			}
			*out = g.stack()
			if g.err != nil {
				return g.err
			}
		}
		if at == p.binary.symbols["m0"] {
			p.PID = t.id
		}
		p.findRegisters(&t)
		p.threads = append(p.threads, t)
		at = next
	}
	return nil
}

// findRegisters finds what a thread had in its registers when it last ran the program's code. If it does so on a processor, they are the
// processor's. Otherwise the kernel has them at the top of its stack for that thread, one of those that were found anywhere: that whose stack
// pointer is into a stack of this thread's.
func (p *Program) findRegisters(t *thread) {
	for _, cpu := range p.dump.CPUs {
		if cpu.CR3&frame == p.space.top && cpu.FSBase == t.fsBase && cpu.User() {
			t.registers, t.known = cpu.Registers, true
			return
		}
	}
	var own stack
	if t.current != 0 {
		if g, err := p.value("runtime.g", t.current); err == nil {
			own = g.stack()
		}
	}
	for _, exact := range []bool{true, false} {
		var found []Registers
		for _, r := range p.dump.users {
			if !t.system.has(r.SP) && !t.signal.has(r.SP) && !own.has(r.SP) || !p.space.has(r.SP) {
				continue
			}
			// Go code has the running g in R14.
			if exact && r.R14 != t.current && r.R14 != t.systemG || slices.Contains(found, r) {
				continue
			}
			found = append(found, r)
		}
		if len(found) == 1 {
			t.registers, t.known = found[0], true
		}
		if len(found) > 0 {
			return
		}
	}
}
