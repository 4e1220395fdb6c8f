package images

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"
)

// A section is one section of a made-up ELF file.
type section struct {
	name string
	data []byte
}

// makeELF makes an ELF file of the given type with sections and, for each of
// notes, a PT_NOTE segment.
func makeELF(t testing.TB, kind elf.Type, machine elf.Machine, sections []section, notes ...[]byte) []byte {
	t.Helper()
	const headerSize, progSize, sectionSize = 64, 56, 64
	names := []byte{0}
	var body []byte
	base := headerSize + progSize*len(notes)
	place := func(data []byte) uint64 {
		body = append(body, make([]byte, -(base+len(body))&7)...)
		at := base + len(body)
		body = append(body, data...)
		return uint64(at)
	}
	var progs []elf.Prog64
	for _, n := range notes {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: place(n), Filesz: uint64(len(n)), Memsz: uint64(len(n)), Align: 4})
	}
	headers := []elf.Section64{{}}
	for _, s := range append(sections, section{name: ".shstrtab"}) {
		h := elf.Section64{Name: uint32(len(names)), Type: uint32(elf.SHT_PROGBITS), Addralign: 1}
		names = append(append(names, s.name...), 0)
		if s.name == ".shstrtab" {
			s.data, h.Type = names, uint32(elf.SHT_STRTAB)
		}
		h.Off, h.Size = place(s.data), uint64(len(s.data))
		headers = append(headers, h)
	}
	table := place(nil)
	var ident [elf.EI_NIDENT]byte
	copy(ident[:], elf.ELFMAG)
	ident[elf.EI_CLASS], ident[elf.EI_DATA], ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var out bytes.Buffer
	for _, v := range []any{
		elf.Header64{
			Ident: ident, Type: uint16(kind), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
			Phoff: headerSize, Shoff: table, Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(len(notes)),
			Shentsize: sectionSize, Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
		},
		progs, body, headers,
	} {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// makeNote makes one ELF note.
func makeNote(owner string, kind uint32, desc []byte) []byte {
	var out bytes.Buffer
	for _, v := range []uint32{uint32(len(owner) + 1), uint32(len(desc)), kind} {
		binary.Write(&out, binary.LittleEndian, v)
	}
	for _, b := range [][]byte{append([]byte(owner), 0), desc} {
		out.Write(b)
		out.Write(make([]byte, -len(b)&3))
	}
	return out.Bytes()
}

// testRelease is the release of the kernels and modules made up here.
const testRelease = "6.1.0-9-cloud-amd64"

// allDrivers are the strings by which a kernel with all drivers built in is known.
const allDrivers = "virtio-pci\x00virtio_console\x00virtio_net\x00"

// makeVmlinux makes what passes for an ELF kernel.
func makeVmlinux(t testing.TB, strings string) []byte {
	text := "Linux version %s (%s)\x00Linux version " + testRelease + " (builder@host) #1\x00" + strings
	return makeELF(t, elf.ET_EXEC, elf.EM_X86_64, []section{{".rodata", []byte(text)}},
		append(makeNote("Linux", 257, nil), makeNote("Xen", pvhNote, []byte{0, 0, 0, 1})...))
}

// makeModule makes what passes for a kernel module.
func makeModule(t testing.TB, release string, depends ...string) []byte {
	info := "license=GPL\x00depends=" + strings.Join(depends, ",") + "\x00vermagic=" + release + " SMP preempt mod_unload \x00"
	return makeELF(t, elf.ET_REL, elf.EM_X86_64, []section{{".modinfo", []byte(info)}})
}

// makeBzImage makes a boot image around a payload.
func makeBzImage(payload []byte) []byte {
	const sectors, inCode = 3, 0x40
	data := make([]byte, (sectors+1)*512+inCode)
	le := binary.LittleEndian
	data[offSetupSects] = sectors
	copy(data[offHeaderMagic:], "HdrS")
	le.PutUint16(data[offVersion:], 0x020f)
	le.PutUint16(data[offKernelVersion:], 0x300)
	copy(data[0x500:], testRelease+" (builder@host) #1 SMP\x00")
	le.PutUint32(data[offPayload:], inCode)
	le.PutUint32(data[offPayloadLength:], uint32(len(payload)))
	data = append(data, payload...)
	return append(data, "what follows the payload"...)
}
