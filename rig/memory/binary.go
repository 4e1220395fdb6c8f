package memory

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Binary is a program's file with symbols and debug information, by which its memory is understood: a static Go program for amd64 whose
// addresses are fixed. What is where in the data of Go's runtime is said by that file, and by nothing here.
type Binary struct {
	name      string
	id        string // in hex, "" for none
	idNote    uint64 // the address of the note with it
	loads     []load // what is in memory of it, in the order of addresses
	text      load
	symbols   map[string]uint64 // addresses of the runtime's variables, by their names in it
	sizes     map[string]uint64
	types     map[string]*dwarf.StructType
	constants map[string]int64
	functions *functions
	wait      []string // why a goroutine waits, by number
	status    []string // what a goroutine does, by number
}

// A load is a range of addresses that is made from the file.
type load struct {
	from, to uint64
	data     []byte // shorter for what begins as zeros
	write    bool
	execute  bool
}

// gnuBuildID is the kind of the note with it, of the owner "GNU".
const gnuBuildID = 3

// maxBinary bounds what is loaded of a binary, in bytes.
const maxBinary = 1 << 30

// What is needed of the debug information: types of the runtime, and constants of it and of the linker's tables.
var (
	runtimeTypes = []string{"runtime.g", "runtime.m", "runtime.moduledata", "runtime._func", "runtime.functab", "runtime.inlinedCall", "runtime.schedt"}

	runtimeConstants = []string{
		"runtime._Gscan", "internal/abi.FuncFlagTopFrame", "internal/abi.FuncFlagSPWrite", "internal/abi.FuncIDWrapper",
		"internal/abi.FuncID_gopanic", "internal/abi.FuncID_sigpanic", "internal/abi.FuncID_panicwrap",
		"internal/abi.FuncID_asyncPreempt", "internal/abi.FuncID_debugCallV2", "internal/abi.FuncID_cgocallback",
		"internal/abi.FuncID_runtime_main", "internal/abi.FuncID_corostart", "internal/abi.FuncID_handleAsyncEvent",
		"internal/abi.FuncID_runFinalizers", "internal/abi.FuncID_runCleanups",
		"internal/abi.PCDATA_InlTreeIndex", "internal/abi.FUNCDATA_InlTree",
	}

	runtimeVariables = []string{"allgs", "allglen", "allm", "m0", "argc", "argv", "firstmoduledata", "waitReasonStrings", "gStatusStrings", "sched"}
)

// OpenBinary reads such a file.
func OpenBinary(name string) (*Binary, error) {
	b, err := openBinary(name)
	if err != nil {
		return nil, fmt.Errorf("read binary %s: %w", name, err)
	}
	return b, nil
}

func openBinary(name string) (*Binary, error) {
	f, err := elf.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC || f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 {
		return nil, fmt.Errorf("it is %v for %v; only programs for amd64 with fixed addresses can be found in a dump", f.Type, f.Machine)
	}
	b := &Binary{name: name, symbols: map[string]uint64{}, sizes: map[string]uint64{}, types: map[string]*dwarf.StructType{}, constants: map[string]int64{}}
	if err := b.readLoads(f); err != nil {
		return nil, err
	}
	if err := b.readSymbols(f); err != nil {
		return nil, err
	}
	if err := b.readDebugInformation(f); err != nil {
		return nil, err
	}
	if b.functions, err = b.readFunctions(); err != nil {
		return nil, fmt.Errorf("its table of functions: %w", err)
	}
	if b.wait, err = b.strings("waitReasonStrings"); err != nil {
		return nil, err
	}
	b.status, err = b.strings("gStatusStrings")
	return b, err
}

// Name is the file's.
func (b *Binary) Name() string { return b.name }

// BuildID is its GNU build id in hex, "" when it has none.
func (b *Binary) BuildID() string { return b.id }

// readLoads reads what the program has in memory when it begins, and its build id.
func (b *Binary) readLoads(f *elf.File) error {
	all := uint64(0)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if all += p.Filesz; p.Filesz > maxBinary || all > maxBinary || p.Memsz < p.Filesz || p.Vaddr >= userEnd || p.Memsz > userEnd-p.Vaddr {
			return fmt.Errorf("a segment of it, at %#x, has %d bytes in the file and %d in memory: that is no program", p.Vaddr, p.Filesz, p.Memsz)
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil && p.Filesz > 0 {
			return fmt.Errorf("a segment of it, at %#x: %w", p.Vaddr, err)
		}
		l := load{p.Vaddr, p.Vaddr + p.Memsz, data, p.Flags&elf.PF_W != 0, p.Flags&elf.PF_X != 0}
		if l.execute {
			b.text = l
		}
		b.loads = append(b.loads, l)
	}
	if len(b.text.data) == 0 {
		return errors.New("it has no code")
	}
	// Go's linker has no segment for this note when there is another one as well.
	if section := f.Section(".note.gnu.build-id"); section != nil && section.Size <= pageSize {
		if data, err := b.read(section.Addr, section.Size); err == nil {
			if id, in, ok := buildID(slices.Clip(data)); ok {
				b.id, b.idNote = id, section.Addr+in
			}
		}
	}
	return nil
}

// buildID returns the first GNU build id among notes, in hex, and where it begins.
func buildID(data []byte) (id string, in uint64, ok bool) {
	for n := range notes(data) {
		if n.owner == "GNU" && n.kind == gnuBuildID {
			in := cap(data) - cap(n.desc) // it is a part of data
			return hex.EncodeToString(n.desc), uint64(in), true
		}
	}
	return "", 0, false
}

func (b *Binary) readSymbols(f *elf.File) error {
	symbols, err := f.Symbols()
	if err != nil {
		return fmt.Errorf("it has no symbols (%w): it was stripped; name the one with debug information", err)
	}
	for _, s := range symbols {
		if name, ok := strings.CutPrefix(s.Name, "runtime."); ok {
			b.symbols[name], b.sizes[name] = s.Value, s.Size
		}
	}
	for _, name := range runtimeVariables {
		if b.symbols[name] == 0 {
			return fmt.Errorf("it has no runtime.%s: it is no Go program, or of a Go that this rig does not know", name)
		}
	}
	return nil
}

func (b *Binary) readDebugInformation(f *elf.File) error {
	d, err := f.DWARF()
	if err != nil {
		return fmt.Errorf("its debug information: %w", err)
	}
	types, constants := set(runtimeTypes), set(runtimeConstants)
	for r := d.Reader(); len(types)+len(constants) > 0; {
		e, err := r.Next()
		if err != nil {
			return fmt.Errorf("its debug information: %w", err)
		}
		if e == nil {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		switch e.Tag {
		case dwarf.TagStructType:
			if !types[name] {
				break
			}
			t, err := d.Type(e.Offset)
			if err != nil {
				return fmt.Errorf("its debug information: type %s: %w", name, err)
			}
			if s, ok := t.(*dwarf.StructType); ok {
				b.types[name] = s
				delete(types, name)
			}
		case dwarf.TagConstant:
			if value, ok := e.Val(dwarf.AttrConstValue).(int64); ok && constants[name] {
				b.constants[name] = value
				delete(constants, name)
			}
		}
		if e.Tag != dwarf.TagCompileUnit && e.Children {
			r.SkipChildren()
		}
	}
	for _, missing := range []map[string]bool{types, constants} {
		for name := range missing {
			return fmt.Errorf("its debug information has no %s: it was stripped, or is of a Go that this rig does not know; name the binary with debug information", name)
		}
	}
	return nil
}

func set(names []string) map[string]bool {
	all := map[string]bool{}
	for _, name := range names {
		all[name] = true
	}
	return all
}

// A field is where something lies in a type, and how large it is, both in bytes.
type field struct{ offset, size uint64 }

// field returns where a field of a type of the runtime is; more names lead into structs.
func (b *Binary) field(name string, path ...string) (field, error) {
	var t dwarf.Type = b.types[name]
	f := field{}
	for _, part := range path {
		s, ok := plain(t).(*dwarf.StructType)
		if !ok {
			return f, b.unknown(name, path)
		}
		found := false
		for _, member := range s.Field {
			if member.Name == part {
				f.offset, t, found = f.offset+uint64(member.ByteOffset), member.Type, true
				break
			}
		}
		if !found {
			return f, b.unknown(name, path)
		}
	}
	// Atomics are structs around their value.
	if s, ok := plain(t).(*dwarf.StructType); ok {
		for _, member := range s.Field {
			if member.Name == "value" {
				f.offset, t = f.offset+uint64(member.ByteOffset), member.Type
			}
		}
	}
	f.size = uint64(max(t.Size(), 0))
	if f.offset+f.size > uint64(max(b.types[name].ByteSize, 0)) {
		return f, b.unknown(name, path)
	}
	return f, nil
}

func (b *Binary) unknown(name string, path []string) error {
	return fmt.Errorf("its debug information has no %s.%s: it is of a Go that this rig does not know", name, strings.Join(path, "."))
}

// plain is what a named type stands for.
func plain(t dwarf.Type) dwarf.Type {
	for range 10 {
		def, ok := t.(*dwarf.TypedefType)
		if !ok {
			break
		}
		t = def.Type
	}
	return t
}

// word reads a number of up to 8 bytes.
func word(data []byte) uint64 {
	var full [8]byte
	copy(full[:], data)
	return binary.LittleEndian.Uint64(full[:])
}

// get returns a field of a value of a type of the runtime.
func (b *Binary) get(value []byte, name string, path ...string) (uint64, error) {
	f, err := b.field(name, path...)
	if err != nil {
		return 0, err
	}
	if f.size > 8 || f.offset+f.size > uint64(len(value)) {
		return 0, b.unknown(name, path)
	}
	return word(value[f.offset:][:f.size]), nil
}

// read returns what lies at an address when the program begins, as the file has it.
func (b *Binary) read(address, size uint64) ([]byte, error) {
	for _, l := range b.loads {
		if address >= l.from && address-l.from <= uint64(len(l.data)) && size <= uint64(len(l.data))-(address-l.from) {
			return l.data[address-l.from:][:size], nil
		}
	}
	return nil, fmt.Errorf("%d bytes at address %#x are not in the file", size, address)
}

// strings reads an array of strings of the runtime.
func (b *Binary) strings(name string) ([]string, error) {
	const most = 256 // their numbers are bytes
	var all []string
	for i := range min(b.sizes[name]/16, most) {
		header, err := b.read(b.symbols[name]+i*16, 16)
		if err != nil {
			return nil, fmt.Errorf("runtime.%s: %w", name, err)
		}
		text, err := b.read(word(header[:8]), word(header[8:]))
		if err != nil && word(header[8:]) > 0 {
			return nil, fmt.Errorf("runtime.%s: %w", name, err)
		}
		all = append(all, string(text))
	}
	return all, nil
}

// untouched returns what is at an address, up to the end of its page, as long as the program has not touched that page: the file's, or zeros.
func (b *Binary) untouched(address uint64) ([]byte, bool) {
	for _, l := range b.loads {
		if address < l.from || address >= l.to {
			continue
		}
		page := make([]byte, min(pageSize-address%pageSize, l.to-address))
		if in := address - l.from; in < uint64(len(l.data)) {
			copy(page, l.data[in:])
		}
		return page, true
	}
	return nil, false
}

// matches reports whether a space is one of a process that runs a binary: by its build id, if the page with it is in memory, which it need not be, and
// by its code, since programs that were compiled from the same source by other flags have the same id. Code in which a debugger has put breakpoints
// differs in some pages.
func (b *Binary) matches(s *space) bool {
	known := false
	if b.id != "" && s.has(b.idNote) {
		got := make([]byte, len(b.id)/2)
		if err := s.read(got, b.idNote); err != nil || hex.EncodeToString(got) != b.id {
			return false
		}
		known = true
	}
	const most = 64 // pages are compared
	found, equal := 0, 0
	// Not the first: in it are the file's headers, others in a file without debug information.
	for at := uint64(pageSize); at+pageSize <= uint64(len(b.text.data)) && found < most; at += pageSize {
		var page [pageSize]byte
		if s.read(page[:], b.text.from+at) != nil {
			continue
		}
		found++
		if bytes.Equal(page[:], b.text.data[at:][:pageSize]) {
			equal++
		}
	}
	if found == 0 {
		return known
	}
	return equal*2 > found
}

// memoryID returns the build id of the program that a space runs, as far as it has one and it is in memory.
func memoryID(s *space) (id string, ok bool) {
	// Where the linkers of Go and of C have programs with fixed addresses begin.
	const usual = 0x400000
	var head elf.Header64
	raw := make([]byte, binary.Size(head))
	if s.read(raw, usual) != nil {
		return "", false
	}
	if _, err := binary.Decode(raw, binary.LittleEndian, &head); err != nil || string(head.Ident[:4]) != elf.ELFMAG || head.Phentsize != 56 || head.Phoff > pageSize {
		return "", false
	}
	for i := range min(head.Phnum, 64) {
		var p elf.Prog64
		raw := make([]byte, binary.Size(p))
		if s.read(raw, usual+head.Phoff+uint64(i)*56) != nil {
			return "", false
		}
		if _, err := binary.Decode(raw, binary.LittleEndian, &p); err != nil || elf.ProgType(p.Type) != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		// Go's linker has only the first of two notes in the segment, and both at the end of a page.
		data := make([]byte, max(p.Filesz, pageSize-p.Vaddr%pageSize))
		if s.read(data, p.Vaddr) != nil {
			continue
		}
		if id, _, ok := buildID(data); ok {
			return id, true
		}
	}
	return "", false
}
