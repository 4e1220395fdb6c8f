package packagefsd

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// noise is content in which no two places look alike.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

func opened(t *testing.T, f *os.File, size int) *file {
	t.Helper()
	got, err := newFile(f, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { got.Close() })
	return got
}

// What is in memory is read by the quick way alone, up to its end.
func TestMemoryIsReadQuickly(t *testing.T) {
	fd, err := unix.MemfdCreate("package", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	want := noise(100_000)
	raw := os.NewFile(uintptr(fd), "package")
	if _, err := raw.Write(want); err != nil {
		t.Fatal(err)
	}
	f := opened(t, raw, len(want))
	p := make([]byte, 32768)
	for off, n := range map[int64]int{0: 32768, 4097: 32768, 99_000: 1000, 100_000: 0, 1 << 40: 0, -1: 0} {
		got, looked := f.readQuickly(p, off)
		if got != n || looked != (off >= 0) || n > 0 && !bytes.Equal(p[:n], want[off:][:n]) {
			t.Errorf("at %d: %d bytes, or other ones, want %d; looked: %t", off, got, n, looked)
		}
	}
	if n, _ := f.readQuickly(nil, 0); n != 0 {
		t.Errorf("read %d bytes into nothing", n)
	}
	f.Close()
	if n, looked := f.readQuickly(p, 0); n != 0 || looked {
		t.Errorf("read %d bytes of a closed file", n)
	}
}

// Whatever the quick way gives, nothing, part of it or all, the whole is read.
func TestWhatIsNotInMemoryIsReadToo(t *testing.T) {
	want := noise(1 << 20)
	for name, prepare := range map[string]func(f *file) error{
		"as it comes":      func(*file) error { return nil },
		"out of the cache": func(f *file) error { return unix.Fadvise(int(f.f.Fd()), 0, 0, unix.FADV_DONTNEED) },
		"partly in the cache": func(f *file) error {
			err := unix.Fadvise(int(f.f.Fd()), 0, 0, unix.FADV_DONTNEED)
			if err == nil {
				_, err = f.f.ReadAt(make([]byte, 5000), 0)
			}
			return err
		},
		"refused": func(f *file) error { f.quick.flags = 1 << 30; return nil }, // as a file system without RWF_NOWAIT does
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			raw, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Sync(); err != nil {
				t.Fatal(err)
			}
			f := opened(t, raw, len(want))
			if err := prepare(f); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if n, err := f.ReadAt(got, 0); n < len(want) || err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, or other ones, want %d: %v", n, len(want), err)
			}
			if n, err := f.ReadAt(got, int64(len(want))-10); n != 10 || err != io.EOF || !bytes.Equal(got[:n], want[len(want)-10:]) {
				t.Errorf("read %d bytes at the end, or other ones, want 10: %v", n, err)
			}
		})
	}
}
