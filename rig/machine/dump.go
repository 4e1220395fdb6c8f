package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Dump writes the machine's memory and the state of its processor to a new file, mode
// 0600: an ELF core, with one LOAD segment for each range of physical addresses. The
// machine stands still meanwhile, and then is what it was, running or not. Where the memory
// is zeros the file has holes, so that a machine that uses little costs little.
//
// What is there already is not written over, and a dump that fails leaves no file. QEMU
// does not let go of one that it has begun, even when ctx ends, nor hears anything else
// meanwhile: a second or so.
func (m *Machine) Dump(ctx context.Context, file string) error {
	if err := m.dump(ctx, file); err != nil {
		return fmt.Errorf("dump the memory of machine %s: %w", m.spec.Name, err)
	}
	return nil
}

func (m *Machine) dump(ctx context.Context, file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; name another file, or move it away", file)
	}
	if err != nil {
		return err
	}
	// Open, not by its path: there QEMU would write over what it finds, and make a file again
	// that was removed because nobody waits for it any more.
	name := "core " + file
	err = m.giveFile(ctx, name, f)
	if err == nil {
		err = m.Run(ctx, "dump-guest-memory", map[string]any{"paging": false, "protocol": "fd:" + name}, nil)
	}
	if err == nil {
		err = digHoles(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// digHoles gives back the blocks of a file that are all zeros, where the file system can.
func digHoles(f *os.File) error {
	const page = 4 << 10 // what file systems have as their block, and the machine as its page
	var zeros [page]byte
	buf := make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(buf)) {
		n, err := f.ReadAt(buf, at)
		from := -1 // where a stretch of zeros begins
		for i := 0; i <= n; i += page {
			if i+page <= n && bytes.Equal(buf[i:i+page], zeros[:]) {
				if from < 0 {
					from = i
				}
				continue
			}
			if from < 0 {
				continue
			}
			hole := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at+int64(from), int64(i-from))
			if errors.Is(hole, unix.EOPNOTSUPP) {
				return nil // the file is whole without
			}
			if hole != nil {
				return fmt.Errorf("dig holes into %s: %w", f.Name(), hole)
			}
			from = -1
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
