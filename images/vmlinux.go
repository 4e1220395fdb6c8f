package images

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// A kernelImage is what a kernel file says of itself.
type kernelImage struct {
	release string // uname -r
	vmlinux []byte // an ELF that QEMU can boot; nil if there is none
	packed  error  // why vmlinux is nil
	drivers string // those of [requiredModules] that are built in, or "unknown"
}

// parseKernel reads a bzImage or an ELF.
//
// Booting the ELF that is packed in a bzImage saves the machine unpacking it, a
// sixth of the whole boot under software emulation. A bzImage that packs it in a
// way not known here boots all the same.
func parseKernel(data []byte) (kernelImage, error) {
	if bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		if err := checkVmlinux(data); err != nil {
			return kernelImage{}, err
		}
		release, err := vmlinuxRelease(data)
		return kernelImage{release: release, vmlinux: data, drivers: builtinDrivers(data)}, err
	}
	b, err := parseBzImage(data)
	if err != nil {
		return kernelImage{}, err
	}
	k := kernelImage{release: b.release, drivers: "unknown"}
	vmlinux, err := unpackPayload(b.payload)
	if err != nil {
		k.packed = err
		return k, nil
	}
	k.drivers = builtinDrivers(vmlinux)
	if k.packed = checkVmlinux(vmlinux); k.packed == nil {
		k.vmlinux = vmlinux
	}
	return k, nil
}

// A bzImage is Linux's x86 boot image.
type bzImage struct {
	release string
	payload []byte // the compressed kernel
}

// Offsets of the setup header, from Documentation/arch/x86/boot.rst of Linux.
const (
	offSetupSects    = 0x1f1 // u8, 512-byte sectors of setup code after the first; 0 means 4
	offHeaderMagic   = 0x202 // "HdrS"
	offVersion       = 0x206 // u16, 2.08 and later have a payload
	offKernelVersion = 0x20e // u16, where the version string is, less 0x200
	offPayload       = 0x248 // u32, from the start of the protected-mode code
	offPayloadLength = 0x24c // u32
	endOfHeader      = 0x250
)

func parseBzImage(data []byte) (bzImage, error) {
	if len(data) < endOfHeader || string(data[offHeaderMagic:offHeaderMagic+4]) != "HdrS" {
		return bzImage{}, errors.New("this is neither an x86 bzImage nor an ELF kernel")
	}
	le := binary.LittleEndian
	if v := le.Uint16(data[offVersion:]); v < 0x0208 {
		return bzImage{}, fmt.Errorf("boot protocol %d.%d is older than 2.08 of Linux 2.6.26", v>>8, v&0xff)
	}
	version := int(le.Uint16(data[offKernelVersion:])) + 0x200
	text, _, ok := bytes.Cut(data[min(version, len(data)):], []byte{0})
	release, _, _ := strings.Cut(string(text), " ")
	if !ok || release == "" {
		return bzImage{}, errors.New("this bzImage does not say its version")
	}
	sectors := int(data[offSetupSects])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int(le.Uint32(data[offPayload:]))
	length := int(le.Uint32(data[offPayloadLength:]))
	if start > len(data) || length > len(data)-start {
		return bzImage{}, fmt.Errorf("this bzImage is cut short: its payload ends at byte %d of %d", start+length, len(data))
	}
	return bzImage{release, data[start : start+length]}, nil
}

// maxVmlinux is far above any kernel, and keeps a broken header from filling the
// memory.
const maxVmlinux = 1 << 30

// unpackPayload decompresses a bzImage's payload. All but gzip's end in the
// size of the result, which the kernel's build appends.
func unpackPayload(payload []byte) ([]byte, error) {
	formats := []struct {
		name, magic string
		sized       bool
		open        func(io.Reader) (io.Reader, error)
	}{
		{"gzip", "\x1f\x8b", false, func(r io.Reader) (io.Reader, error) {
			z, err := gzip.NewReader(r)
			if err == nil {
				z.Multistream(false)
			}
			return z, err
		}},
		{"lz4", "\x02\x21\x4c\x18", true, func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil }},
		{"zstd", "\x28\xb5\x2f\xfd", true, func(r io.Reader) (io.Reader, error) {
			z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxVmlinux))
			if err != nil {
				return nil, err
			}
			return z.IOReadCloser(), nil
		}},
		{"xz", "\xfd7zXZ\x00", true, func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }},
	}
	for _, f := range formats {
		if !bytes.HasPrefix(payload, []byte(f.magic)) {
			continue
		}
		want := -1
		if f.sized {
			if len(payload) < 4 {
				return nil, fmt.Errorf("its %s payload is cut short", f.name)
			}
			end := len(payload) - 4
			want, payload = int(binary.LittleEndian.Uint32(payload[end:])), payload[:end]
		}
		z, err := f.open(bytes.NewReader(payload))
		if err != nil {
			return nil, fmt.Errorf("its %s payload: %w", f.name, err)
		}
		data, err := readAll(z, maxVmlinux)
		if err != nil {
			return nil, fmt.Errorf("its %s payload: %w", f.name, err)
		}
		if want >= 0 && len(data) != want {
			return nil, fmt.Errorf("its %s payload: %d bytes came out in place of %d", f.name, len(data), want)
		}
		return data, nil
	}
	return nil, fmt.Errorf("its payload is of an unknown format, starting with % x", payload[:min(6, len(payload))])
}

// readAll reads r to its end, closes it if it can be closed, and refuses to read
// more than limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}

// pvhNote is XEN_ELFNOTE_PHYS32_ENTRY: its owner is "Xen" and its value the
// address at which QEMU enters an ELF kernel.
const pvhNote = 18

// checkVmlinux reports why QEMU could not boot data as an ELF kernel.
func checkVmlinux(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read the ELF kernel: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("the ELF kernel is for %s, not x86-64", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := readAll(p.Open(), maxVmlinux)
		if err != nil {
			return fmt.Errorf("read the ELF kernel's notes: %w", err)
		}
		if slices.Contains(xenNotes(f.ByteOrder, notes), pvhNote) {
			return nil
		}
	}
	return errors.New("the ELF kernel has no PVH entry (CONFIG_PVH), the way in for QEMU: take the bzImage of the same build")
}

// xenNotes lists the types of Xen's notes.
func xenNotes(order binary.ByteOrder, notes []byte) []uint32 {
	round := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	var types []uint32
	for len(notes) >= 12 {
		nameSize, descSize := order.Uint32(notes), order.Uint32(notes[4:])
		kind := order.Uint32(notes[8:])
		notes = notes[12:]
		end := round(nameSize) + round(descSize)
		if end > uint64(len(notes)) {
			break
		}
		if bytes.HasPrefix(notes[:round(nameSize)], []byte("Xen\x00")) {
			types = append(types, kind)
		}
		notes = notes[end:]
	}
	return types
}

// vmlinuxRelease finds the version in the banner that the kernel prints first.
func vmlinuxRelease(data []byte) (string, error) {
	const banner = "Linux version "
	for rest := data; ; {
		i := bytes.Index(rest, []byte(banner))
		if i < 0 {
			return "", errors.New("this ELF does not say its Linux version")
		}
		rest = rest[i+len(banner):]
		// The format string of the same banner lies nearby.
		if len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			release, _, _ := bytes.Cut(rest[:min(len(rest), 64)], []byte(" "))
			return string(release), nil
		}
	}
}

// builtinDrivers lists the required drivers that are part of the kernel itself,
// separated by spaces. A driver's name, with which it registers, stands in the
// kernel's strings; the linker may have made it the tail of a longer one.
func builtinDrivers(vmlinux []byte) string {
	names := map[string]string{"virtio_pci": "virtio-pci"}
	var found []string
	for _, m := range requiredModules {
		name := m
		if n, ok := names[m]; ok {
			name = n
		}
		if bytes.Contains(vmlinux, []byte(name+"\x00")) {
			found = append(found, m)
		}
	}
	return strings.Join(found, " ")
}
