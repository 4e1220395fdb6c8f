// Package follow reads a file that another process writes, as it grows.
//
// It owns waiting for the next byte, by the kernel's notice that there is one (inotify). It never writes, and knows nothing of what is in the file.
package follow

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A File is a file that may still grow. Read is for one goroutine at a time; End and Close may be called at any time by any.
type File struct {
	data    *os.File
	changes *os.File // inotify: what reads from it waits for the next change
	ended   atomic.Bool
}

// Open opens a file, at its beginning, and makes it, empty, if it is missing: so one can follow what will be written by a program that has not started.
func Open(path string) (*File, error) {
	data, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	// Not blocking, so that Go waits for it without a thread, and a deadline can end the wait.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("follow %s: inotify: %w; the limit is fs.inotify.max_user_instances", path, err), data.Close())
	}
	changes := os.NewFile(uintptr(fd), "inotify of "+path)
	// The file that was opened, whatever its path names by now.
	if _, err := unix.InotifyAddWatch(fd, "/proc/self/fd/"+strconv.Itoa(int(data.Fd())), unix.IN_MODIFY); err != nil {
		return nil, errors.Join(fmt.Errorf("follow %s: inotify: %w; the limit is fs.inotify.max_user_watches", path, err), changes.Close(), data.Close())
	}
	return &File{data: data, changes: changes}, nil
}

// Read waits until there is something to read. It returns io.EOF when there is nothing left and End was called, and os.ErrClosed after Close.
func (f *File) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	events := make([]byte, 16*unix.SizeofInotifyEvent) // equal ones in a row are one
	for {
		// Before reading: what was written before the end was said has to be found.
		ended := f.ended.Load()
		n, err := f.data.Read(b)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		if ended {
			return 0, io.EOF
		}
		if _, err := f.changes.Read(events); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
	}
}

// End says that nothing more will be written.
func (f *File) End() {
	f.ended.Store(true)
	// A deadline long past ends the wait, and any later one. The error would be that it is closed.
	_ = f.changes.SetReadDeadline(time.Unix(1, 0))
}

// Close ends any Read.
func (f *File) Close() error { return errors.Join(f.changes.Close(), f.data.Close()) }
