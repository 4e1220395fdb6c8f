package memory

import (
	"bytes"
	"errors"
	"sort"
)

// functions is the table by which Go's runtime prints a stack: names, lines, the sizes of frames, and which functions were inlined where. It is in
// every Go program, and so is the runtime's own reader of it, which this follows (runtime/symtab.go, symtabinl.go): what is printed is what the
// program itself would have printed.
type functions struct {
	binary *Binary

	text, end uint64 // addresses
	goFunc    uint64

	entries                                      []functionEntry
	names, units, files, values, table           []byte
	entryOff, nameOff, spTable, fileTable, lines field
	valueTables, unit, id, flags, dataTables     field
	size                                         uint64 // of the fixed part
	inlinedSize                                  uint64
	inlinedID, inlinedName, inlinedParent        field
}

type functionEntry struct{ entry, offset uint32 }

// A function is one of the table.
type function struct {
	entry  uint64 // address
	record []byte // from where it begins
}

// A call is one line of a stack: a function, and where in its source it is.
type call struct {
	name    string
	file    string
	line    int32
	id      int64 // of the runtime's special functions
	inlined bool
}

var errTable = errors.New("it is corrupt, or of a Go that this rig does not know")

func (b *Binary) readFunctions() (*functions, error) {
	const module = "runtime.moduledata"
	data, err := b.read(b.symbols["firstmoduledata"], uint64(b.types[module].ByteSize))
	if err != nil {
		return nil, err
	}
	t := &functions{binary: b}
	number := func(out *uint64, path ...string) {
		if err == nil {
			*out, err = b.get(data, module, path...)
		}
	}
	// A slice of elements of that size.
	slice := func(out *[]byte, name string, element uint64) {
		var address, length uint64
		number(&address, name, "array")
		number(&length, name, "len")
		if err == nil && length > maxBinary {
			err = errTable
		}
		if err == nil {
			*out, err = b.read(address, length*element)
		}
	}
	at := func(out *field, name string, path ...string) {
		if err == nil {
			*out, err = b.field(name, path...)
		}
		if err == nil && out.size > 8 {
			err = b.unknown(name, path)
		}
	}
	number(&t.text, "text")
	number(&t.end, "etext")
	number(&t.goFunc, "gofunc")
	slice(&t.names, "funcnametab", 1)
	slice(&t.units, "cutab", 4)
	slice(&t.files, "filetab", 1)
	slice(&t.values, "pctab", 1)
	slice(&t.table, "pclntable", 1)

	var tab []byte
	size := uint64(b.types["runtime.functab"].ByteSize)
	slice(&tab, "ftab", size)
	var entry, offset field
	at(&entry, "runtime.functab", "entryoff")
	at(&offset, "runtime.functab", "funcoff")

	const fn = "runtime._func"
	for name, out := range map[string]*field{
		"entryOff": &t.entryOff, "nameOff": &t.nameOff, "pcsp": &t.spTable, "pcfile": &t.fileTable, "pcln": &t.lines,
		"npcdata": &t.valueTables, "cuOffset": &t.unit, "funcID": &t.id, "flag": &t.flags, "nfuncdata": &t.dataTables,
	} {
		at(out, fn, name)
	}
	t.size = uint64(b.types[fn].ByteSize)
	const inlined = "runtime.inlinedCall"
	t.inlinedSize = uint64(b.types[inlined].ByteSize)
	at(&t.inlinedID, inlined, "funcID")
	at(&t.inlinedName, inlined, "nameOff")
	at(&t.inlinedParent, inlined, "parentPc")
	if err != nil {
		return nil, err
	}
	if size == 0 || entry.offset+entry.size > size || offset.offset+offset.size > size {
		return nil, errTable
	}
	for ; uint64(len(tab)) >= size; tab = tab[size:] {
		t.entries = append(t.entries, functionEntry{uint32(word(tab[entry.offset:][:entry.size])), uint32(word(tab[offset.offset:][:offset.size]))})
	}
	if len(t.entries) < 2 {
		return nil, errTable
	}
	return t, nil
}

// find returns the function whose code is at an address.
func (t *functions) find(pc uint64) (function, bool) {
	if pc < t.text || pc >= t.end {
		return function{}, false
	}
	off := pc - t.text
	// The last entry is the end of the code.
	i := sort.Search(len(t.entries), func(i int) bool { return uint64(t.entries[i].entry) > off }) - 1
	if i < 0 || i == len(t.entries)-1 || uint64(t.entries[i].offset)+t.size > uint64(len(t.table)) {
		return function{}, false
	}
	f := function{record: t.table[t.entries[i].offset:]}
	f.entry = t.text + f.get(t.entryOff)
	return f, f.entry <= pc
}

func (f function) get(at field) uint64 { return word(f.record[at.offset:][:at.size]) }

// id tells the runtime's special functions.
func (t *functions) idOf(f function) int64 { return int64(f.get(t.id)) }

// name of a function.
func (t *functions) name(f function) string { return text(t.names, f.get(t.nameOff)) }

// text returns the string that ends with a zero.
func text(table []byte, at uint64) string {
	if at >= uint64(len(table)) {
		return "?"
	}
	rest := table[at:]
	if i := bytes.IndexByte(rest, 0); i >= 0 {
		return string(rest[:i])
	}
	return "?"
}

// value looks an address up in one of a function's tables that say what holds from where on. It is -1 where the table says nothing.
func (t *functions) value(f function, table, pc uint64) int32 {
	if table == 0 || table >= uint64(len(t.values)) {
		return -1
	}
	data, value, at := t.values[table:], int32(-1), f.entry
	for first := true; ; first = false {
		delta, n := varint(data)
		if n == 0 || delta == 0 && !first {
			return -1
		}
		value += int32(-(delta & 1) ^ (delta >> 1))
		step, m := varint(data[n:])
		if m == 0 {
			return -1
		}
		data = data[n+m:]
		if at += uint64(step); pc < at {
			return value
		}
	}
}

// varint reads a number; n is 0 when it is not whole.
func varint(data []byte) (value uint32, n int) {
	for n < len(data) && n < 5 {
		b := data[n]
		value |= uint32(b&0x7f) << (7 * n)
		n++
		if b&0x80 == 0 {
			return value, n
		}
	}
	return 0, 0
}

// frameSize is how much a function has on the stack at an address, in bytes, without the return address.
func (t *functions) frameSize(f function, pc uint64) (uint64, bool) {
	size := t.value(f, f.get(t.spTable), pc)
	return uint64(size), size >= 0
}

// where returns file and line.
func (t *functions) where(f function, pc uint64) (string, int32) {
	file, line := t.value(f, f.get(t.fileTable), pc), t.value(f, f.get(t.lines), pc)
	unit := (f.get(t.unit) + uint64(max(file, 0))) * 4
	if file < 0 || line < 0 || unit+4 > uint64(len(t.units)) {
		return "?", 0
	}
	return text(t.files, word(t.units[unit:][:4])), line
}

// array returns an element of the numbers behind a function's record.
func (f function) array(from uint64, i uint64) (uint64, bool) {
	if at := from + i*4; at+4 <= uint64(len(f.record)) {
		return word(f.record[at:][:4]), true
	}
	return 0, false
}

// calls returns the functions that are at an address, the innermost first: those that were inlined, and the one they were inlined into. pc is in the
// instruction that calls.
func (t *functions) calls(f function, pc uint64) []call {
	const most = 100 // what the compiler inlines into each other is a handful
	var all []call
	for len(all) < most {
		c := call{name: t.name(f), id: t.idOf(f)}
		c.file, c.line = t.where(f, pc)
		parent, ok := t.inlined(f, pc, &c)
		all = append(all, c)
		if !ok {
			break
		}
		pc = parent
	}
	return all
}

// inlined makes c the function that is inlined at an address, if there is one, and returns where it is called.
func (t *functions) inlined(f function, pc uint64, c *call) (parent uint64, ok bool) {
	constants := t.binary.constants
	which, tree := uint64(constants["internal/abi.PCDATA_InlTreeIndex"]), uint64(constants["internal/abi.FUNCDATA_InlTree"])
	count := f.get(t.valueTables)
	if which >= count || tree >= f.get(t.dataTables) {
		return 0, false
	}
	table, ok := f.array(t.size, which)
	if !ok {
		return 0, false
	}
	index := t.value(f, table, pc)
	offset, ok := f.array(t.size+count*4, tree)
	if !ok || index < 0 || offset == uint64(^uint32(0)) {
		return 0, false
	}
	record, err := t.binary.read(t.goFunc+offset+uint64(index)*t.inlinedSize, t.inlinedSize)
	if err != nil {
		return 0, false
	}
	get := func(at field) uint64 { return word(record[at.offset:][:at.size]) }
	c.name, c.id, c.inlined = text(t.names, get(t.inlinedName)), int64(get(t.inlinedID)), true
	return f.entry + get(t.inlinedParent), true
}
