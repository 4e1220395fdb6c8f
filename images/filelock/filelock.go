// Package filelock owns waiting for a file's lock, which processes of one host take to keep out of each other's way in a folder.
//
// It is flock(2): the kernel drops a lock however its holder ends, so a file that is left behind means nothing.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock takes the exclusive lock of a file, which it makes when there is none. When somebody holds the lock it calls waiting, unless
// that is nil, and waits until ctx ends; the error is then the cause of ctx. unlock gives the lock back.
func Lock(ctx context.Context, name string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		if waiting != nil {
			waiting()
		}
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
	return func() { f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
