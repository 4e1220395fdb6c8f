// Package filelock owns waiting for a file's lock, which processes of one host take to keep out of each other's way in a folder.
//
// It is flock(2): the kernel drops a lock however its holder ends, so a file that is left behind means nothing.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock takes the exclusive lock of a file, which it makes when there is none.
// When another process holds the lock, Lock calls waiting with words for that
// process, "another rig (pid 123)", and waits until ctx ends; the error is then
// the cause of ctx. unlock gives the lock back.
func Lock(ctx context.Context, name string, waiting func(holder string)) (unlock func(), err error) {
	// Who can open the file can lock it: that is the user alone.
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Earlier versions let others read it. Where it is another user's, so is the lock.
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		_ = f.Chmod(0o600)
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		waiting(holder(f))
		// The system call cannot be interrupted: when ctx ends first, it stays behind until the holder is done, and then
		// lets go at once.
		locked := make(chan error)
		go func() {
			err := flock(f, unix.LOCK_EX)
			select {
			case locked <- err:
			case <-ctx.Done():
				f.Close()
			}
		}()
		select {
		case err = <-locked:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	// For those who wait, and for nothing else: a lock without a pid is a lock.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return func() {
		_ = f.Truncate(0)
		f.Close()
	}, nil
}

// holder returns words for the process that holds the lock of f. It has written
// its pid into the file, unless it has only just taken the lock.
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n]))); err == nil && pid > 0 {
		return fmt.Sprintf("another rig (pid %d)", pid)
	}
	return "another rig"
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
