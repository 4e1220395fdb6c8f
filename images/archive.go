package images

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/u-root/mkuimage/cpio"
)

// archiveFile is the name of a layer's archive in its entry.
func archiveFile(layer string) string { return layer + ".cpio" }

// An archive collects the files of an initial file system, in the order in which
// the kernel will make them. Owners are root and times are zero, so that the same
// files make the same bytes.
type archive struct {
	records []cpio.Record
	dirs    map[string]bool
}

// dir adds a folder and those above it. The kernel does not make missing ones.
func (a *archive) dir(name string, perm uint64) {
	if a.dirs == nil {
		a.dirs = map[string]bool{".": true}
	}
	if a.dirs[name] {
		return
	}
	a.dir(path.Dir(name), 0o755)
	a.dirs[name] = true
	a.records = append(a.records, cpio.Directory(name, perm))
}

func (a *archive) add(r cpio.Record) {
	a.dir(path.Dir(r.Name), 0o755)
	a.records = append(a.records, r)
}

// bytes adds a file with the given content.
func (a *archive) bytes(name string, content []byte, perm uint64) {
	a.add(cpio.StaticRecord(content, cpio.Info{Name: name, Mode: cpio.S_IFREG | perm}))
}

// program adds an executable file with the content of the host's file src.
func (a *archive) program(name, src string) error {
	content, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	a.bytes(name, content, 0o755)
	return nil
}

// link adds a symbolic link.
func (a *archive) link(name, target string) { a.add(cpio.Symlink(name, target)) }

// device adds a character device.
func (a *archive) device(name string, perm, major, minor uint64) {
	a.add(cpio.CharDev(name, perm, major, minor))
}

// write writes the archive of a layer into dir.
func (a *archive) write(dir, layer string) error {
	file := filepath.Join(dir, archiveFile(layer))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := cpio.Newc.Writer(buffered)
	for _, r := range a.records {
		if err := w.WriteRecord(r); err != nil {
			return fmt.Errorf("write %s: %s: %w", file, r.Name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return f.Close()
}
