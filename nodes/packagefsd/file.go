package packagefsd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// file is a File over a received descriptor.
type file struct {
	f    *os.File
	raw  syscall.RawConn
	size int64
	made unix.Timespec // modification time when resolved

	mu    sync.Mutex // guards what the functions fill
	now   unix.Stat_t
	stat  error
	quick quickRead
	fstat func(fd uintptr) // made once, as quick's: a closure for each read would be garbage for each read
}

// newFile checks that f is what the service said it is. It takes f over only
// when it succeeds.
func newFile(f *os.File, size int64) (*file, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	opened := &file{f: f, raw: raw, size: size}
	opened.fstat = func(fd uintptr) { opened.stat = unix.Fstat(int(fd), &opened.now) }
	opened.quick.try = opened.quick.once
	if err := opened.look(); err != nil {
		return nil, fmt.Errorf("look at the received descriptor: %w", err)
	}
	if opened.now.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%w: the descriptor is not a regular file", errMalformed)
	}
	if opened.now.Size != size {
		return nil, ErrChanged
	}
	opened.made = opened.now.Mtim
	if !inMemory(raw) { // file systems of memory do not know the flag
		opened.quick.flags = unix.RWF_NOWAIT
	}
	return opened, nil
}

// inMemory says whether a file's content is in memory and nowhere else, so that
// reading it does not wait for a device, unless the host swaps.
func inMemory(raw syscall.RawConn) bool {
	var fs unix.Statfs_t
	err := raw.Control(func(fd uintptr) {
		if unix.Fstatfs(int(fd), &fs) != nil {
			fs.Type = 0
		}
	})
	return err == nil && (int64(fs.Type) == unix.TMPFS_MAGIC || int64(fs.Type) == unix.RAMFS_MAGIC)
}

func (f *file) look() error {
	if err := f.raw.Control(f.fstat); err != nil {
		return err
	}
	return f.stat
}

func (f *file) Size() int64 { return f.size }

func (f *file) Close() error { return f.f.Close() }

// ReadAt reads like any io.ReaderAt, and fails with ErrChanged once the file
// was rewritten in place. The look comes after the read: what it vouches for
// is then already in p.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	n, looked := f.readQuickly(p, off)
	now := &f.quick.now
	same := now.Size == uint64(f.size) && now.Mtime.Sec*1e9+int64(now.Mtime.Nsec) == f.made.Nano()
	f.mu.Unlock()
	if looked && n == len(p) {
		if !same {
			return 0, ErrChanged
		}
		return n, nil
	}
	// The rest is not in memory, or not there at all.
	rest, err := f.f.ReadAt(p[n:], off+int64(n))
	n += rest
	if err != nil && err != io.EOF {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.look(); err != nil {
		return 0, fmt.Errorf("look at the open file: %w", err)
	}
	if f.now.Size != f.size || f.now.Mtim != f.made {
		return 0, ErrChanged
	}
	return n, err
}

// readQuickly reads as much as there is without waiting for a device, and says
// whether quick.now is how the file looked afterwards; 0 also stands for every
// failure. mu is held.
func (f *file) readQuickly(p []byte, off int64) (n int, looked bool) {
	if len(p) == 0 || off < 0 {
		return 0, false
	}
	q := &f.quick
	q.to.Base, q.off, q.n, q.looked = unsafe.SliceData(p), off, 0, false
	q.to.SetLen(len(p))
	err := f.raw.Control(q.try)
	q.to.Base = nil
	if err != nil {
		return 0, false
	}
	return q.n, q.looked
}

// quickRead is a read, and a look behind it, by system calls that the Go
// scheduler is not told of, as package quickconn's are and for the same reason:
// where a machine is emulated, the watching thread takes them for ones that
// block, and each costs one or two switches of threads. One that may block is not
// made.
type quickRead struct {
	to     unix.Iovec
	off    int64
	flags  uintptr
	n      int
	now    unix.Statx_t // it has the same form on every kind of machine
	looked bool
	try    func(fd uintptr)
}

// noPath stands for the descriptor itself.
var noPath = [1]byte{}

// once makes the calls. The offset's upper half is for machines whose registers
// have 32 bits; others ignore it.
func (q *quickRead) once(fd uintptr) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_PREADV2, fd, uintptr(unsafe.Pointer(&q.to)), 1,
		uintptr(q.off), uintptr(q.off>>32), q.flags)
	if errno != 0 {
		return
	}
	q.n = int(n)
	_, _, errno = syscall.RawSyscall6(unix.SYS_STATX, fd, uintptr(unsafe.Pointer(&noPath)), unix.AT_EMPTY_PATH,
		unix.STATX_SIZE|unix.STATX_MTIME, uintptr(unsafe.Pointer(&q.now)), 0)
	q.looked = errno == 0 && q.now.Mask&(unix.STATX_SIZE|unix.STATX_MTIME) == unix.STATX_SIZE|unix.STATX_MTIME
}
