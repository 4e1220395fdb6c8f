package images

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// pack compresses data as a kernel build would.
func pack(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "lz4":
		z := lz4.NewWriter(&out)
		err = z.Apply(lz4.LegacyOption(true))
		w = z
	case "zstd":
		w, err = zstd.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	default:
		t.Fatalf("no format %q", format)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if format == "gzip" {
		return out.Bytes()
	}
	return binary.LittleEndian.AppendUint32(out.Bytes(), uint32(len(data)))
}

func TestParseKernel(t *testing.T) {
	vmlinux := makeVmlinux(t, allDrivers)
	unbootable := makeELF(t, elf.ET_EXEC, elf.EM_X86_64, nil, makeNote("Xen", 5, nil), makeNote("Linux", pvhNote, nil))
	broken := pack(t, "gzip", vmlinux)
	broken[len(broken)/2] ^= 0xff
	miscounted := pack(t, "xz", vmlinux)
	miscounted[len(miscounted)-4]++
	tests := []struct {
		name    string
		image   []byte
		drivers string
		packed  string // part of the reason why the bzImage has to do; empty means vmlinux comes out
	}{
		{"ELF", vmlinux, "virtio_pci virtio_console virtio_net", ""},
		{"ELF without drivers", makeVmlinux(t, "virtio_net_hdr\x00"), "", ""},
		{"gzip", makeBzImage(pack(t, "gzip", vmlinux)), "virtio_pci virtio_console virtio_net", ""},
		{"lz4", makeBzImage(pack(t, "lz4", vmlinux)), "virtio_pci virtio_console virtio_net", ""},
		{"zstd", makeBzImage(pack(t, "zstd", vmlinux)), "virtio_pci virtio_console virtio_net", ""},
		{"xz", makeBzImage(pack(t, "xz", vmlinux)), "virtio_pci virtio_console virtio_net", ""},
		{"no PVH entry", makeBzImage(pack(t, "lz4", unbootable)), "", "PVH"},
		{"unknown format", makeBzImage([]byte("\x89LZO and so on")), "unknown", "unknown format, starting with 89 4c 5a 4f"},
		{"damaged", makeBzImage(broken), "unknown", "its gzip payload: "},
		{"miscounted", makeBzImage(miscounted), "unknown", "its xz payload: "},
		{"tiny", makeBzImage([]byte("\x02\x21\x4c\x18")[:4]), "unknown", "its lz4 payload: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k, err := parseKernel(test.image)
			if err != nil {
				t.Fatal(err)
			}
			if k.release != testRelease {
				t.Errorf("release %q", k.release)
			}
			if k.drivers != test.drivers {
				t.Errorf("drivers %q, want %q", k.drivers, test.drivers)
			}
			if test.packed == "" {
				if k.packed != nil {
					t.Errorf("not unpacked: %v", k.packed)
				}
				if err := checkVmlinux(k.vmlinux); err != nil {
					t.Errorf("what came out: %v", err)
				}
				return
			}
			if k.vmlinux != nil || k.packed == nil || !strings.Contains(k.packed.Error(), test.packed) {
				t.Errorf("not unpacked: %v, want something with %q", k.packed, test.packed)
			}
		})
	}
}

func TestParseKernelRefuses(t *testing.T) {
	good := makeBzImage(pack(t, "gzip", makeVmlinux(t, "")))
	old := bytes.Clone(good)
	binary.LittleEndian.PutUint16(old[offVersion:], 0x0207)
	anonymous := bytes.Clone(good)
	binary.LittleEndian.PutUint16(anonymous[offKernelVersion:], 0xffff)
	tests := []struct {
		name, want string
		image      []byte
	}{
		{"empty", "neither", nil},
		{"text", "neither", bytes.Repeat([]byte("no kernel\n"), 100)},
		{"truncated", "cut short", good[:len(good)-100]},
		{"old protocol", "2.7 is older", old},
		{"no version", "does not say its version", anonymous},
		{"ELF of another machine", "not x86-64", makeELF(t, elf.ET_EXEC, elf.EM_AARCH64, nil)},
		{"ELF without entry", "no PVH entry", makeELF(t, elf.ET_EXEC, elf.EM_X86_64, nil)},
		{"ELF that is no kernel", "Linux version", makeELF(t, elf.ET_EXEC, elf.EM_X86_64, nil, makeNote("Xen", pvhNote, nil))},
		{"ELF cut short", "ELF", makeVmlinux(t, "")[:40]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseKernel(test.image)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want something with %q", err, test.want)
			}
		})
	}
}

func FuzzParseKernel(f *testing.F) {
	vmlinux := makeVmlinux(f, allDrivers)
	f.Add(vmlinux)
	for _, format := range []string{"gzip", "lz4", "zstd", "xz"} {
		f.Add(makeBzImage(pack(f, format, vmlinux)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKernel(data)
		if err == nil && (k.release == "" || (k.vmlinux == nil) == (k.packed == nil)) {
			t.Errorf("accepted as release %q with %d bytes of ELF and %v", k.release, len(k.vmlinux), k.packed)
		}
	})
}
