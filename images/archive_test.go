package images

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
)

// An archived is one file of an archive.
type archived struct {
	mode    uint64
	content []byte
	device  [2]uint64
	at      int
}

// readArchive reads an archive with the library's reader.
func readArchive(t testing.TB, path string) map[string]archived {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(f))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	out := map[string]archived{}
	for i, r := range records {
		content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatalf("%s: %s: %v", path, r.Name, err)
		}
		if _, twice := out[r.Name]; twice {
			t.Errorf("%s: %s is there twice", path, r.Name)
		}
		out[r.Name] = archived{r.Mode, content, [2]uint64{r.Rmajor, r.Rminor}, i}
	}
	return out
}

func TestArchive(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func() []byte {
		var a archive
		a.dir("tmp", 0o1777)
		a.bytes("usr/share/doc/odd", []byte("odd"), 0o640)
		if err := a.program("bin/program", program); err != nil {
			t.Fatal(err)
		}
		a.link("bin/alias", "/bin/program")
		a.device("dev/console", 0o600, 5, 1)
		dir := t.TempDir()
		if err := a.write(dir, "base"); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "base.cpio"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := write()
	if !bytes.Equal(first, write()) {
		t.Error("the same files make different archives")
	}
	if len(first)%4 != 0 {
		t.Errorf("%d bytes: the archive that follows would not start at a multiple of 4", len(first))
	}
	path := filepath.Join(t.TempDir(), "a.cpio")
	if err := os.WriteFile(path, first, 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]archived{
		"tmp":               {mode: cpio.S_IFDIR | 0o1777, at: 0},
		"usr":               {mode: cpio.S_IFDIR | 0o755, at: 1},
		"usr/share":         {mode: cpio.S_IFDIR | 0o755, at: 2},
		"usr/share/doc":     {mode: cpio.S_IFDIR | 0o755, at: 3},
		"usr/share/doc/odd": {mode: cpio.S_IFREG | 0o640, content: []byte("odd"), at: 4},
		"bin":               {mode: cpio.S_IFDIR | 0o755, at: 5},
		"bin/program":       {mode: cpio.S_IFREG | 0o755, content: []byte("#!"), at: 6},
		"bin/alias":         {mode: cpio.S_IFLNK | 0o777, content: []byte("/bin/program"), at: 7},
		"dev":               {mode: cpio.S_IFDIR | 0o755, at: 8},
		"dev/console":       {mode: cpio.S_IFCHR | 0o600, device: [2]uint64{5, 1}, at: 9},
	}
	got := readArchive(t, path)
	for name, a := range got {
		if len(a.content) == 0 {
			a.content = nil
			got[name] = a
		}
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(archived{})); d != "" {
		t.Errorf("archive (-want +got):\n%s", d)
	}
}

func TestArchiveMissingProgram(t *testing.T) {
	var a archive
	if err := a.program("bin/x", filepath.Join(t.TempDir(), "x")); !os.IsNotExist(err) {
		t.Errorf("error %v", err)
	}
}
